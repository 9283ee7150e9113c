"""Small changes of the code, one at a time, that its tests must notice: `python tests/stress/mutants.py`.

A mutant swaps a comparison, an operation, `and` and `or`, `min` and `max`, `any` and `all`; it moves a whole number by
one, drops a minus or a `not`, negates a condition, or returns None. Messages of errors, decorators and the `strict` of
`zip` (over lists that are made equally long) are left alone. Those that no test notices are printed, for a reader: some
change nothing that anybody can see.

The tests of a target run in a process of their own for each mutant, the quick ones first, until one fails. Processor
time is limited to five times that of the unchanged code: other work on the machine makes no mutant look noticed, and
one that never ends is counted apart. Tests on real speech and on ShEMO's metadata are part of it (see `conftest.py`).
"""

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# What is changed (of a file, only the functions named), and the tests that must notice.
TARGETS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "splits": ("ser/data/splits.py", (), ("tests/data/test_splits.py", "tests/data/test_audit.py")),
    "folds": ("ser/data/folds.py", (), ("tests/data/test_splits.py",)),
    "leaks": ("ser/data/leaks.py", (), ("tests/data/test_splits.py", "tests/data/test_audit.py")),
    "metrics": ("ser/evaluation/metrics.py", (), ("tests/evaluation/test_metrics.py",)),
    "calibration": ("ser/evaluation/calibration.py", (), ("tests/evaluation/test_calibration.py",)),
    "masked normalisation": (
        "ser_model.py",
        *(
            ("num_frames", "length_mask", "masked_group_norm", "_masked_moments", "masked_mean_std", "span_mask"),
            ("tests/model/test_ser_model.py",),
        ),
    ),
}
SWAPS: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin"}
METHODS = NAMES | {"sum": "mean", "maximum": "minimum", "minimum": "maximum"}
GIGABYTES = 8  # A mutant that asks for more memory fails.
FIRST_LIMIT_SECONDS = 600
MARKS = "not heavy and not browser and not stress"
# Tests that take seconds and see no more than others do.
LEFT_OUT = "not is_reproduced and not every_protocol_file_splits and not emodb"


def mutants_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Changes in place, one by one, what is below `node`; yields line and change, and undoes it afterwards."""
    for child in ast.walk(node):
        if getattr(child, "is_left_alone", False):
            continue
        for field, new in _changes(child):
            old = getattr(child, field)
            setattr(child, field, new)
            yield getattr(child, "lineno", 0) or child.target.lineno, f"{_words(old)} -> {_words(new)}"
            setattr(child, field, old)


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Field and new value of each change of a node."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in SWAPS:
                yield "ops", [*node.ops[:i], SWAPS[type(op)](), *node.ops[i + 1 :]]
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield "op", SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        yield "operand", _unary(node.op, node.operand)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield "value", not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield "id", NAMES[node.id]
    elif isinstance(node, ast.Attribute) and node.attr in METHODS:
        yield "attr", METHODS[node.attr]
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not _is_not(node.test):
        yield "test", _unary(ast.Not(), node.test)
    elif isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            if not _is_not(test):
                yield "ifs", [*node.ifs[:i], _unary(ast.Not(), test), *node.ifs[i + 1 :]]
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "value", ast.copy_location(ast.Constant(None), node.value)


def _unary(op: ast.unaryop, operand: ast.expr) -> ast.UnaryOp:
    return ast.copy_location(ast.UnaryOp(op, copy.deepcopy(operand)), operand)


def _is_not(test: ast.expr) -> bool:
    """Whether dropping a `not` negates a condition already."""
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_words, value))
    return ast.unparse(value) or type(value).__name__ if isinstance(value, ast.AST) else repr(value)


def parsed(path: Path, functions: tuple[str, ...]) -> tuple[ast.Module, list[ast.AST]]:
    """A file, and the functions of it to change; what the text above names is marked as left alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, kinds) and (not functions or node.name in functions)]
    for node in ast.walk(tree):
        skipped: list[ast.AST | None] = [node] if isinstance(node, ast.Raise | ast.JoinedStr) else []
        skipped += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        skipped += getattr(node, "decorator_list", [])
        skipped += [node.value] if isinstance(node, ast.keyword) and node.arg == "strict" else []
        for part in (part for part in skipped if part is not None):
            for inner in ast.walk(part):
                inner.is_left_alone = True
    return tree, found


class Trial:
    """A plugin of pytest: in place of running the tests once, it runs them in a process of its own for each mutant.

    These processes begin where everything is imported. There, the functions of the file get the code of the mutant.
    """

    def __init__(self, target: str, only: list[str], sample: int | None):
        file, functions, self.tests = TARGETS[target]
        self.path, self.name = ROOT / file, file.removesuffix(".py").replace("/", ".")
        self.tree, self.nodes = parsed(self.path, tuple(only) or functions)
        self.total = sum(1 for node in self.nodes for _ in mutants_of(node))
        self.chosen = set(random.Random(0).sample(range(self.total), min(sample or self.total, self.total)))
        self.verdicts: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.limit, self.notes, self.parent = FIRST_LIMIT_SECONDS, Path(tempfile.mkdtemp(), "notes.json"), os.getpid()
        self.out = os.fdopen(os.dup(1), "w")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Returns None in a child, which makes pytest run the tests there."""
        child = self._fork()
        if child == 0:
            swap_code(sys.modules[self.name], compile(self.tree, str(self.path), "exec"))
            return None
        assert (found := verdict_of(child)) == "survived", f"{self.tests} fail by themselves: {found}"
        self._learn(session)
        mutants = ((node, *mutant) for node in self.nodes for mutant in mutants_of(node))
        for number, (node, line, change) in enumerate(mutants):
            if number not in self.chosen:
                continue
            code = compile(ast.fix_missing_locations(self.tree), str(self.path), "exec")
            child = self._fork()
            if child == 0:
                swap_code(sys.modules[self.name], code)
                return None
            verdict = verdict_of(child)
            self.verdicts[verdict] += 1
            if verdict != "caught":
                place = f"{self.path.relative_to(ROOT)}:{line}, {node.name}"
                print(f"{verdict}: {place}: {change}", file=self.out, flush=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if os.getpid() != self.parent and self.limit == FIRST_LIMIT_SECONDS:
            self.notes.write_text(json.dumps([time.process_time(), self.seconds, sorted(sys.modules)]))

    def _fork(self) -> int:
        child = os.fork()
        if child == 0:
            os.dup2(1, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (self.limit, self.limit + 10))
            resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES << 30, GIGABYTES << 30))
        return child

    def _learn(self, session: pytest.Session) -> None:
        """Takes from the run on the unchanged code: its time, the order of the tests, and what they import late."""
        taken, self.seconds, modules = json.loads(self.notes.read_text())
        self.limit = int(5 * taken) + 10
        session.items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        gc.freeze()  # a child that collects garbage would copy all that memory


def verdict_of(child: int) -> str:
    """Waits for a process: "caught", "survived" or "endless"."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    verdicts = {0: "survived", 1: "caught", -signal.SIGXCPU: "endless"}
    return verdicts.get(status, f"ended with {status}")


def swap_code(module: Any, code: Any) -> None:
    """Gives the functions of a module, wherever they were imported to, the code and defaults that a file now has."""
    changed: dict[str, Any] = {"__name__": module.__name__}
    exec(code, changed)
    for name, new in changed.items():
        if getattr(new, "__module__", "") != module.__name__:
            continue
        old, pairs = getattr(module, name), [(getattr(module, name), new)]
        if isinstance(new, type):
            found = {key: getattr(own, "fget", None) for key, own in vars(new).items()}
            pairs = [(getattr(vars(old).get(key), "fget", None), own) for key, own in found.items()]
        for before, after in pairs:
            if isinstance(before, FunctionType) and isinstance(after, FunctionType):
                before.__code__, before.__defaults__ = after.__code__, after.__defaults__
                before.__kwdefaults__ = after.__kwdefaults__


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, help="mutants of each target, drawn at random; all by default")
    parser.add_argument("--only", choices=TARGETS, help="one target")
    parser.add_argument("--functions", nargs="+", default=[], help="mutants of these functions of the target")
    options = parser.parse_args()
    rows = ["| target | mutants | caught | of these endless | share | seconds |", "|---|---|---|---|---|---|"]
    for target in [options.only] if options.only else TARGETS:
        start, trial = time.perf_counter(), Trial(target, options.functions, options.sample)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        flags = ["-x", "-q", "-s", "--tb=no", "-m", MARKS, "-k", LEFT_OUT, f"--basetemp={trial.notes.parent}/tests"]
        flags += [f"-pno:{plugin}" for plugin in ("cacheprovider", "xdist", "unraisableexception")]
        code = pytest.main([*trial.tests, *flags], plugins=[trial])
        if os.getpid() != trial.parent:
            os._exit(code)
        os.dup2(trial.out.fileno(), 1)
        shutil.rmtree(trial.notes.parent)
        if code:
            sys.exit(f"{target}: pytest ended with {code}: {trial.tests} fail by themselves or cannot be collected.")
        tried, endless = len(trial.chosen), trial.verdicts["endless"]
        caught, seconds = trial.verdicts["caught"] + endless, time.perf_counter() - start
        share = f"{100 * caught / tried:.1f} %"
        rows.append(f"| {target} | {tried} of {trial.total} | {caught} | {endless} | {share} | {seconds:.0f} |")
        print("", *rows, "", sep="\n", flush=True)


if __name__ == "__main__":
    main()

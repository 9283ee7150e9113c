"""Small changes of the code, one at a time, that its tests must notice: `python tests/stress/mutants.py [--sample 60]`.

A mutant swaps a comparison, an operation, `and` and `or`, `min` and `max`, `any` and `all`; it moves a whole number by
one, negates a condition, or returns None. Messages of errors are left alone. Those that no test notices are printed,
for a reader: some change nothing that anybody can see.
"""

import argparse
import ast
import copy
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What is changed (of a file, only the functions named), and the tests that must notice.
TARGETS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "splits": ("ser/data/splits.py", (), ("tests/data/test_splits.py",)),
    "folds": ("ser/data/folds.py", (), ("tests/data/test_splits.py", "tests/data/test_many_corpora.py")),
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
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin", "sum": "mean"}
SECONDS = 120  # A mutant that runs longer has been noticed.


def mutants_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Changes in place, one by one, what is below `node`; yields line and change, and undoes it afterwards."""
    for child in ast.walk(node):
        if getattr(child, "is_left_alone", False):
            continue
        for owner, field, new in _changes(child):
            old = getattr(owner, field)
            setattr(owner, field, new)
            yield child.lineno, f"{_words(old)} -> {_words(new)}"
            setattr(owner, field, old)


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, str, object]]:
    if isinstance(node, ast.Compare):
        yield from ((node, "ops", [SWAPS[type(op)](), *node.ops[1:]]) for op in node.ops[:1] if type(op) in SWAPS)
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield node, "op", SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield node, "value", not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Name | ast.Attribute):
        field = "id" if isinstance(node, ast.Name) else "attr"
        if getattr(node, field) in NAMES:
            yield node, field, NAMES[getattr(node, field)]
    elif isinstance(node, ast.If | ast.IfExp):
        yield node, "test", ast.copy_location(ast.UnaryOp(ast.Not(), copy.deepcopy(node.test)), node.test)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield node, "value", ast.copy_location(ast.Constant(None), node.value)


def _words(value: object) -> str:
    if isinstance(value, list):
        return _words(value[0])
    return ast.unparse(value) or type(value).__name__ if isinstance(value, ast.AST) else repr(value)


def parsed(path: Path, functions: tuple[str, ...]) -> tuple[ast.Module, list[ast.AST]]:
    """A file, and the functions of it to change; errors, texts and annotations are marked as left alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, kinds) and (not functions or node.name in functions)]
    for node in ast.walk(tree):
        skipped: list[ast.AST | None] = [node] if isinstance(node, ast.Raise | ast.JoinedStr) else []
        skipped += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for part in (part for part in skipped if part is not None):
            for inner in ast.walk(part):
                inner.is_left_alone = True
    return tree, found


def is_caught(tree: ast.Module, path: Path, tests: tuple[str, ...]) -> bool:
    """Whether the tests fail, in a process of their own, with this tree in place of the file."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(_run_tests(tree, path, tests))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _run_tests(tree: ast.Module, path: Path, tests: tuple[str, ...]) -> int:
    import pytest

    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")

    class Finder:
        def find_spec(self, asked: str, *_: object) -> object:
            return importlib.util.spec_from_loader(name, self, origin=str(path)) if asked == name else None

        def create_module(self, spec: object) -> None:
            return None

        def exec_module(self, module: object) -> None:
            module.__file__ = str(path)
            exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), module.__dict__)

    sys.meta_path.insert(0, Finder())
    marks = "not slow and not heavy and not browser and not stress"
    return int(pytest.main([*tests, "-x", "-q", "-m", marks, "-p", "no:cacheprovider", "-p", "no:xdist"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=60, help="mutants of each target, drawn at random")
    parser.add_argument("--only", help="one target")
    options = parser.parse_args()
    import datasets  # noqa: F401  imported once, before the processes are forked
    import pandas  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import transformers  # noqa: F401

    print("| target | mutants | caught | seconds |\n|---|---|---|---|")
    survivors = []
    for target, (file, functions, tests) in TARGETS.items():
        if options.only not in (None, target):
            continue
        start, path = time.perf_counter(), ROOT / file
        tree, nodes = parsed(path, functions)
        assert not is_caught(tree, path, tests), f"{tests} fail by themselves"
        total = sum(1 for node in nodes for _ in mutants_of(node))
        chosen = set(random.Random(0).sample(range(total), min(options.sample, total)))
        mutants = (mutant for node in nodes for mutant in mutants_of(node))
        caught = 0
        for number, (line, change) in enumerate(mutants):
            if number in chosen:
                noticed = is_caught(tree, path, tests)
                caught += noticed
                survivors += [] if noticed else [f"{file}:{line}: {change}"]
        print(f"| {target} | {len(chosen)} of {total} | {caught} | {time.perf_counter() - start:.0f} |", flush=True)
    print("\nnoticed by no test:", *survivors, sep="\n")


if __name__ == "__main__":
    main()

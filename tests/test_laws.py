"""The laws of the design: who imports whom, and how long a function may be."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOT_MODULES = {"run_ser", "ser_model", "data_prep"}
SOURCES = [*ROOT.glob("*.py"), *(ROOT / "ser").rglob("*.py")]
# Which wings of `ser` a wing may import, besides itself.
MAY_IMPORT = {
    "data": set(),
    "evaluation": set(),
    "training": {"data", "evaluation"},
    "experiments": {"data", "evaluation", "training"},
    "exploration": {"data", "evaluation", "training", "experiments"},
    "inference": {"data", "evaluation"},
    "publish": {"data", "evaluation", "inference"},
    "page": {"data", "evaluation", "inference"},
}
# These may import the model too.
MODEL_USERS = {"training", "experiments", "inference", "publish", "page"}
MOST_PARAMETERS = 6


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names of what a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) + "." if node.level else ""
            names |= {f"{package}{node.module or ''}"} | {f"{package}{node.module or ''}.{a.name}" for a in node.names}
    return names


def test_the_file_that_travels_imports_only_what_every_user_has():
    allowed = {"torch", "transformers", "numpy", *sys.stdlib_module_names}
    tops = {name.split(".")[0] for name in imported(ROOT / "ser_model.py", top_level_only=True)}
    assert tops <= allowed
    assert not {name.split(".")[0] for name in imported(ROOT / "ser_model.py")} & {"ser", "run_ser", "data_prep"}


@pytest.mark.parametrize("path", sorted((ROOT / "ser").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_imports_no_root_module_and_wings_only_what_they_may(path):
    names = imported(path)
    wing = path.relative_to(ROOT / "ser").parts[0]
    if path.name != "cli.py":
        forbidden = ROOT_MODULES - ({"ser_model"} if wing in MODEL_USERS else set())
        assert not {name.split(".")[0] for name in names} & forbidden
    used = {name.split(".")[1] for name in names if name.startswith("ser.") and name.split(".")[1] in MAY_IMPORT}
    assert used <= MAY_IMPORT.get(wing, set()) | {wing} or path.name == "cli.py"


def test_the_command_line_imports_nothing_heavy_before_a_command_is_chosen():
    tops = {name.split(".")[0] for name in imported(ROOT / "ser" / "cli.py", top_level_only=True)}
    assert not tops & {
        "torch",
        "transformers",
        "datasets",
        "numpy",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        *ROOT_MODULES,
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short_take_few_parameters_and_modules_are_short_too(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
            count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
            count -= bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
            is_given = path.name == "cli.py" or node.name == "forward"  # flags; names that transformers sets
            assert count <= MOST_PARAMETERS or is_given, f"{node.name} takes {count} parameters"
    if path.name not in ("ser_model.py", "cli.py"):  # one travels alone; one is a list of commands
        assert len(text.splitlines()) <= 300

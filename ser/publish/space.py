"""`ser push-space`: the page as a Space. It holds the code of the page and loads the model from its repository."""

import ast
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import ser_model
from ser.publish.hub import check_repo_id, commit_folder
from ser.publish.staging import check_run, staged_files
from ser.run_folder import read_results

_PACKAGE = Path(__file__).parents[1]
# Packages that the copied modules import; a Gradio Space brings Gradio itself.
_REQUIREMENTS = ("huggingface_hub", "jinja2", "numpy", "safetensors", "soundfile", "soxr", "torch", "transformers")
_APP = '''"""The page of {model}: record or upload speech and see its emotion."""

from ser.inference.loading import load_pipeline
from ser.page.app import serve

MODEL = "{model}"
serve(load_pipeline(MODEL), MODEL)
'''


def push_space(
    run_dir: Path,
    repo_id: str,
    model: str | None = None,
    output: Path | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> str | None:
    """Makes a Space of a run's page and puts it on the Hub in one commit; prints each step.

    The Space loads the model and its results from the model's repository: push that first.

    Args:
        run_dir: The folder of one finished run, for its licence and name.
        repo_id: `user/name` of the Space.
        model: `user/name` of the model; by default the same as the Space, which the Hub allows.
        output: A new folder to write; then nothing is pushed.
        private: Whether a new Space is private.
        dry_run: Stops before anything leaves the machine.

    Returns:
        The address of the Space; None where nothing was pushed.

    Raises:
        ValueError, OSError: A wrong repository name, an unfinished run, `output` exists, or the Hub refused.
    """
    model = model or repo_id
    check_repo_id(repo_id)
    check_repo_id(model)
    check_run(run_dir)
    if output is not None:
        if output.exists():
            raise FileExistsError(f"--output: {output} exists; choose a folder that is not there.")
        output.mkdir(parents=True)
        files = write_space(run_dir, output, model)
        print(f"{output}: {len(files)} files of a Space: {', '.join(files)}")
        return None
    with tempfile.TemporaryDirectory() as folder:
        files = write_space(run_dir, Path(folder), model)
        print(f"{len(files)} files of a Space that loads {model}: {', '.join(files)}", flush=True)
        if dry_run:
            print("dry run: nothing was pushed.")
            return None
        address = commit_folder(Path(folder), repo_id, "space", private)
    print(f"pushed to {address}")
    return address


def write_space(run_dir: Path, folder: Path, model: str) -> list[str]:
    """Fills an empty folder with a Space.

    Args:
        run_dir: The folder of the run that is the model.
        model: `user/name` of the model.

    Returns:
        Names of the files, sorted.
    """
    (folder / "app.py").write_text(_APP.format(model=model), encoding="utf-8")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in _requirements()), encoding="utf-8")
    (folder / "README.md").write_text(_readme(run_dir, model), encoding="utf-8")
    shutil.copyfile(ser_model.__file__, folder / "ser_model.py")
    for file in sorted(_modules_of(folder / "app.py")):
        _copy(file, folder)
    for file in (_PACKAGE / "page" / "templates").iterdir():
        _copy(file, folder)
    return staged_files(folder)


def _copy(file: Path, folder: Path) -> None:
    target = folder / file.relative_to(_PACKAGE.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _modules_of(script: Path) -> set[Path]:
    """Files of this package that a script needs, imports within functions included."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        new = set(_imported(waiting.pop())) - found
        found |= new
        waiting.extend(new)
    return found


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ser":
            for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                path = _PACKAGE.parent.joinpath(*name.split("."))
                if path.with_suffix(".py").is_file():
                    yield path.with_suffix(".py")
                packages = (parent / "__init__.py" for parent in path.parents if parent.is_relative_to(_PACKAGE))
                yield from (package for package in packages if package.is_file())


def _requirements() -> list[str]:
    return [f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def _readme(run_dir: Path, model: str) -> str:
    """The Space's metadata, its headline and a link to the model."""
    from huggingface_hub import SpaceCard, SpaceCardData

    from ser.evaluation.format import headline

    data = SpaceCardData(
        title=f"{model.partition('/')[2]}: how a voice sounds",
        sdk="gradio",
        sdk_version=version("gradio"),
        app_file="app.py",
        python_version="3.12",
        license="apache-2.0",
        models=[model],
        short_description="Speech emotion recognition, with its limits",
    )
    figures = headline(dict(read_results(run_dir)))
    link = f"[{model}](https://huggingface.co/{model})"
    return str(SpaceCard(f"---\n{data.to_yaml()}\n---\n\nThe page of {link}: {figures}. Read its limits there.\n"))

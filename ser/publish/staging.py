"""Makes the folder that is pushed: the files of a run that users need, without paths of this machine."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ser.files import read_json, write_json
from ser.publish.card import make_card
from ser.publish.privacy import private_paths, without_paths
from ser.run_folder import (
    CARD,
    FINAL_PREDICTIONS,
    LOG,
    MODEL_CONFIG,
    PREDICTIONS,
    REPORT,
    RESULTS,
    SPLIT,
    pooled_models,
    read_log,
    read_results,
)

CODE = "ser_model.py"
# SHA-256 of each released `ser_model.py`, which may be run from the folder of a run like the installed file.
RELEASED_CODE: tuple[str, ...] = ()
# Only these are pushed. Everything else in a run's folder stays: checkpoints, optimizer, logs, examples, and
# predictions.parquet, which holds labels and speakers that the corpus's licence may not let others have.
_ALLOWED = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|config\.json|preprocessor_config\.json"
    r"|ser_model\.py|README\.md|results\.json|report\.html|splits\.json|[\w-]+\.png"
)


def stage(run_dir: Path, folder: Path, repo_id: str) -> list[str]:
    """Copies the files of a run that are to be pushed into an empty folder.

    Weights, code and plots are copied unchanged. Paths of this machine are removed from configurations and results;
    `splits.json` keeps only ids; the report is made again without audio; the card is made from the copied results.

    Args:
        run_dir: The folder of one finished run that passed `check_run`.
        folder: An empty folder.
        repo_id: The repository that the card's example loads.

    Returns:
        Names of the files, sorted.

    Raises:
        ValueError: A file of the run is not JSON.
    """
    results = read_results(run_dir)
    paths = private_paths(run_dir, results.get("config", {}))
    for name in _as_they_are(run_dir):
        shutil.copyfile(run_dir / name, folder / name)
    config = read_json(run_dir / MODEL_CONFIG)
    is_ours = "auto_map" in config
    if is_ours:
        shutil.copyfile(run_dir / CODE, folder / CODE)
    contents = {
        MODEL_CONFIG: config,
        "preprocessor_config.json": read_json(run_dir / "preprocessor_config.json"),
        RESULTS: results,
    }
    if (run_dir / SPLIT).is_file():
        contents[SPLIT] = {k: v for k, v in read_json(run_dir / SPLIT).items() if k != "clips"}
    contents = without_paths(contents, paths)
    for name, content in contents.items():
        write_json(content, folder / name)
    _write_report(run_dir, folder, contents)
    digest = hashlib.sha256((folder / RESULTS).read_bytes()).hexdigest()
    plots = sorted(path.name for path in folder.glob("*.png"))
    make_card(contents[RESULTS], repo_id, digest, plots, is_ours, read_log(run_dir)).save(folder / CARD)
    return staged_files(folder)


def check_run(run_dir: Path) -> None:
    """Refuses a folder that is not one finished run.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: It holds several runs, pooled.
    """
    if not run_dir.is_dir():
        raise FileNotFoundError(f"{run_dir} is not a folder; give the folder of a finished run.")
    if pooled := pooled_models(run_dir):
        raise ValueError(pooled)
    weights = [name for name in ("model.safetensors", "model.safetensors.index.json") if (run_dir / name).is_file()]
    needed = [MODEL_CONFIG, "preprocessor_config.json", RESULTS, PREDICTIONS]
    if (run_dir / MODEL_CONFIG).is_file() and "auto_map" in read_json(run_dir / MODEL_CONFIG):
        needed.append(CODE)
    if (run_dir / RESULTS).is_file() and "final_fit" in read_results(run_dir):
        needed.append(FINAL_PREDICTIONS)
    missing = [name for name in needed if not (run_dir / name).is_file()] + ["model.safetensors"] * (not weights)
    if missing:
        raise FileNotFoundError(f"{run_dir} lacks {', '.join(missing)}; expected the folder of a finished run.")


def check_code(folder: Path) -> None:
    """Refuses a folder whose `ser_model.py` is not known, before any of it is run.

    Raises:
        ValueError: The file is neither the installed one, byte for byte, nor a released one, or `config.json` names
            code in another file.
    """
    config = read_json(folder / MODEL_CONFIG) if (folder / MODEL_CONFIG).is_file() else {}
    pipelines = (given.get("impl") for given in config.get("custom_pipelines", {}).values())
    for name in [*config.get("auto_map", {}).values(), *pipelines]:
        if not isinstance(name, str) or not name.startswith("ser_model."):
            raise ValueError(f"{folder / MODEL_CONFIG} names the code {name!r}; expected classes of {CODE}. Run again.")
    if not (folder / CODE).is_file():
        return
    spec = find_spec("ser_model")
    if spec is None or spec.origin is None:
        raise ImportError("ser_model is not installed; install this package again.")
    installed = Path(spec.origin)
    found, expected = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / CODE, installed))
    if found != expected and found not in RELEASED_CODE:
        raise ValueError(
            f"{folder / CODE} has SHA-256 {found}, the installed {installed} has {expected}: code that is not known is "
            f"not run. Copy the installed file over it, or install the version of ser that made the run."
        )


def staged_files(folder: Path) -> list[str]:
    """Names of all files in a folder and below it, sorted, with `/` between their parts."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def strangers(names: Sequence[str]) -> list[str]:
    """Names that are not files of a pushed model."""
    return [name for name in names if not _ALLOWED.fullmatch(name)]


def _as_they_are(run_dir: Path) -> list[str]:
    """Names of the weights and the plots."""
    return sorted(
        path.name
        for path in run_dir.iterdir()
        if path.is_file() and _ALLOWED.fullmatch(path.name)
        if path.suffix in (".safetensors", ".png") or path.name.endswith(".index.json")
    )


def _write_report(run_dir: Path, folder: Path, contents: Mapping[str, Any]) -> None:
    """Makes `report.html` from the copied results, without audio."""
    from ser.evaluation.report import write_report

    with tempfile.TemporaryDirectory() as scratch:
        for name in (PREDICTIONS, LOG):
            if (run_dir / name).is_file():
                shutil.copyfile(run_dir / name, Path(scratch) / name)
        for name in (RESULTS, SPLIT):
            if name in contents:
                shutil.copyfile(folder / name, Path(scratch) / name)
        shutil.copyfile(write_report(Path(scratch)), folder / REPORT)

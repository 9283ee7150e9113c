"""Folders of runs: what may be written where, what is finished, and what goes on after a kill."""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from ser.training.arguments import NOT_PART_OF_A_RUN

CHECKPOINTS = "checkpoints"
# What data_prep.py may have put into the folder before the run.
PLOTS_OF_PREPARATION = ("class_distribution.png", "duration_histogram.png")


def claim_folder(folder: Path, arguments: dict[str, Any], overwrite: bool) -> bool:
    """Makes `folder` the home of the run that `arguments` describe, before anything is computed.

    Returns:
        True when the folder holds the same run already, which goes on where it was.

    Raises:
        ValueError: The folder holds something else.
    """
    if overwrite and is_run(folder):
        shutil.rmtree(folder)
    config = folder / "run_config.yaml"
    if not folder.exists() or all(path.name in PLOTS_OF_PREPARATION for path in folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(config, yaml.safe_dump(arguments, sort_keys=True, allow_unicode=True))
        return False
    if not is_run(folder):
        raise ValueError(f"--output_dir: {folder} holds files that are no run of this project. Choose another folder.")
    before = yaml.safe_load(config.read_text(encoding="utf-8"))
    changed = sorted(
        key for key in {*before, *arguments} - {*NOT_PART_OF_A_RUN} if before.get(key) != arguments.get(key)
    )
    if changed:
        raise ValueError(
            f"--output_dir: {folder} holds another run, which differs in {', '.join(changed)}. "
            "Choose another folder, or replace it with --overwrite true."
        )
    return True


def is_run(folder: Path) -> bool:
    """Whether a run of this project was begun in `folder`."""
    return (folder / "run_config.yaml").is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` came to its end: `results.json` is the last file written."""
    return (folder / "results.json").is_file()


def what_lies_in(folder: Path) -> str:
    """What a finished run left, in words: whose model it is, or that pooled runs have none in common."""
    models = sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob("seed-*/fold-*/config.json"))
    if not models:
        return "model, results.json, report.html" if (folder / "config.json").is_file() else "results.json, report.html"
    if (folder / "config.json").is_file():
        return f"model of all clips (the scores are those of its {len(models)} folds), results.json, report.html"
    return (
        f"results.json, report.html; the models are those of the folds, such as {folder / models[0]} (one of all "
        "clips: the same command with --final_fit true)"
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in `folder`; `trainer_state.json` is the last file of each."""
    found = [path.parent for path in (folder / CHECKPOINTS).glob("checkpoint-*/trainer_state.json")]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

"""The folder of a run: what its files are called, who may write there, and how results are read.

The folder is the contract between training, evaluation, publishing and the page. This module alone knows its names.

    run_config.yaml      the arguments, written before anything is computed
    checkpoints/         training state; removed when the run ends
    config.json, model.safetensors, preprocessor_config.json, ser_model.py    the model
    splits.json          the clips of train, dev and test
    predictions.parquet  scores of each clip of dev and test; its columns: `ser.predictions`
    layers.parquet       predictions from each layer of a frozen backbone for held-out clips of train
    training_log.json    loss and dev scores by step
    results.json         every figure, computed from the predictions
    report.html, README.md, *.png    made from the results
    data.html            about the corpus; data_prep.py may have put it there before the run
    finished.json        written last: the run is finished
    seed-*/fold-*/       one such folder for each seed and fold, where the run has several
    final_fit.json, final_predictions.parquet    about the model of all clips, beside pooled folds
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ser.files import read_json, write_json, write_text
from ser.yaml_files import read_yaml

CONFIG = "run_config.yaml"
CHECKPOINTS = "checkpoints"
MODEL_CONFIG = "config.json"
SPLIT = "splits.json"
PREDICTIONS = "predictions.parquet"
LAYERS = "layers.parquet"
ROBUSTNESS = "robustness.parquet"
LOG = "training_log.json"
RESULTS = "results.json"
REPORT = "report.html"
DATA_PAGE = "data.html"
CARD = "README.md"
FINAL_FIT = "final_fit.json"
FINAL_PREDICTIONS = "final_predictions.parquet"
EXAMPLES = "examples"
TENSORBOARD = "tensorboard"
FINISHED = "finished.json"
# Held while a run works in the folder.
LOCK = ".lock"
# Version of the shape of `results.json`.
FORMAT = 1
# Sections that other commands add to the results of a finished run.
ATTACHED = ("baseline", "robustness")
# What data_prep.py may have put into the folder before the run.
FILES_OF_PREPARATION = ("class_distribution.png", "duration_histogram.png", DATA_PAGE)
# Arguments that may differ between a run and its continuation.
NOT_PART_OF_A_RUN = (
    *("output_dir", "logging_dir", "num_proc", "cache_dir", "disable_tqdm", "overwrite", "debug_errors", "data_page"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "resume_from_checkpoint"),
    "final_fit",  # it may be asked for once the folds are finished
)


def fold_folder(folder: Path, seed: int, fold: int) -> Path:
    """The folder of one of several runs, below the output folder."""
    return folder / f"seed-{seed}" / f"fold-{fold}"


def fold_folders(folder: Path, having: str) -> list[Path]:
    """The folders of a run's seeds and folds that hold a file of the name `having`, sorted."""
    return sorted(path.parent for path in Path(folder).glob(f"seed-*/fold-*/{having}"))


def has_model(folder: Path) -> bool:
    """Whether the folder itself holds a trained model."""
    return (folder / MODEL_CONFIG).is_file()


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run of this project, finished or not."""
    return (folder / CONFIG).is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` came to its end.

    A run writes `finished.json` last. Older runs have none: such a folder is finished if it has results, no
    checkpoints, and the report, which one of several runs never had.
    """
    if not (folder / RESULTS).is_file():
        return False
    is_one_of_many = folder.name.startswith("fold-") and folder.parent.name.startswith("seed-")
    is_older = not (folder / CHECKPOINTS).exists() and (is_one_of_many or (folder / REPORT).is_file())
    return (folder / FINISHED).is_file() or is_older


def begin(folder: Path) -> None:
    """Marks the run in `folder` as unfinished: it has a folder of checkpoints from now on."""
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    (folder / FINISHED).unlink(missing_ok=True)


def mark_finished(folder: Path) -> None:
    """Removes the checkpoints and marks the run as finished; nothing may be written after that."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    write_json({"format": FORMAT}, folder / FINISHED)


def release_run_folder(folder: Path) -> None:
    """Removes a folder that was claimed and in which nothing was computed."""
    if not folder.is_dir():
        return
    for empty in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(empty.iterdir()):
            empty.rmdir()
    if {path.name for path in folder.iterdir()} <= {CONFIG, LOCK}:
        (folder / CONFIG).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def claim_run_folder(folder: Path, arguments: dict[str, Any], overwrite: bool) -> bool:
    """Writes the arguments of a run into `folder`, before anything is computed.

    Returns:
        True when the folder already holds the same run, which then continues.

    Raises:
        ValueError: The folder holds something else.
    """
    if overwrite and is_run(folder):
        _empty(folder)
    config = folder / CONFIG
    if not folder.exists() or all(path.name in (*FILES_OF_PREPARATION, LOCK) for path in folder.iterdir()):
        write_text(yaml.safe_dump(arguments, sort_keys=True, allow_unicode=True), config)
        return False
    if not is_run(folder):
        raise ValueError(f"--output_dir: {folder} holds files that are no run of this project. Choose another folder.")
    before = read_run_config(folder)
    changed = sorted(
        key for key in {*before, *arguments} - {*NOT_PART_OF_A_RUN} if before.get(key) != arguments.get(key)
    )
    if changed:
        raise ValueError(
            f"--output_dir: {folder} holds another run, which differs in {', '.join(changed)}. "
            "Choose another folder, or replace it with --overwrite true."
        )
    return True


def _empty(folder: Path) -> None:
    """Removes what is in `folder` but the lock, which this process holds."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def read_run_config(folder: Path) -> dict[str, Any]:
    """The arguments of a run; empty if the folder has none.

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / CONFIG
    return read_yaml(path) if path.is_file() else {}


def read_results(folder: str | Path) -> dict[str, Any]:
    """The content of a run's `results.json`.

    Args:
        folder: The folder of a run, or the file itself.

    Raises:
        FileNotFoundError: There is none: the run is not finished.
        ValueError: It is not an object of JSON, or not the results of a run.
    """
    path = Path(folder)
    path = path if path.is_file() else path / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected the folder of a finished run, as run_ser.py writes it")
    results = read_json(path)
    if "task" not in results and "format" not in results:
        raise ValueError(f"{path} holds no `task`; expected the results of a run: make them again")
    return results


def write_results(results: Mapping[str, Any], folder: Path) -> None:
    """Writes `results.json`, whole or not at all."""
    write_json(results, folder / RESULTS)


def add_to_results(folder: Path, **sections: Any) -> dict[str, Any]:
    """Adds sections to the results of a finished run, replaces those of the same name, and returns all results.

    Raises:
        FileNotFoundError, ValueError: As `read_results`.
    """
    results = {**read_results(folder), **sections}
    write_results(results, folder)
    return results


def attached_sections(folder: Path) -> dict[str, Any]:
    """Sections that other commands added to the results; pooling the runs again must keep them."""
    before = read_results(folder) if (folder / RESULTS).is_file() else {}
    return {key: before[key] for key in ATTACHED if key in before}


def predictions_file(run: str | Path) -> Path:
    """The path of a run's predictions, from its folder or from the file itself.

    Raises:
        FileNotFoundError: No such file.
    """
    path = Path(run)
    path = path / PREDICTIONS if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there; expected the folder of a finished run, which run_ser.py with --do_predict writes"
        )
    return path


def predictions_to_pool(run: str | Path) -> list[Path]:
    """The files with the predictions of a run, or of one of its seeds, whose folder holds only those of its folds.

    Raises:
        FileNotFoundError: There is none.
    """
    folds = sorted(Path(run).glob(f"fold-*/{PREDICTIONS}"))
    return folds if folds and not (Path(run) / PREDICTIONS).is_file() else [predictions_file(run)]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The content of `training_log.json`; empty if the run had no training steps."""
    return read_json(folder / LOG, list) if (folder / LOG).is_file() else []


def pooled_models(folder: Path) -> str | None:
    """An error text for a folder that pools several runs and has no model of its own; None for other folders."""
    parts = [path.relative_to(folder).as_posix() for path in fold_folders(folder, MODEL_CONFIG)]
    if not parts or has_model(folder):
        return None
    others = f" to {parts[-1]}" if len(parts) > 1 else ""
    return (
        f"{folder} pools {len(parts)} runs, each with a model of its own ({parts[0]}{others}). Give one of them, such "
        f"as {folder / parts[0]}, or make one model of all clips: the command that made the run, with --final_fit true."
    )


def tested_models(folder: Path) -> list[Path]:
    """The folders that hold a tested model: those of a run's folds and seeds, or its own.

    A model of all clips beside its folds was tested on nothing.

    Raises:
        ValueError: There is none.
    """
    folders = fold_folders(folder, MODEL_CONFIG) or ([folder] if has_model(folder) else [])
    if not folders:
        raise ValueError(f"{folder}: holds no model, nor do seed-*/fold-* in it; give the folder of a finished run.")
    return folders


def models_of_folds(folder: Path, folds: str | None) -> list[Path]:
    """As [`tested_models`], of these folds alone.

    Args:
        folder: The folder of a finished run.
        folds: Numbers of folds with commas between, such as `0,2`; None: all.

    Raises:
        ValueError: There is no model, no such fold, or `folds` is no list of numbers.
    """
    models = tested_models(folder)
    if folds is None:
        return models
    wanted = [f"fold-{number.strip()}" for number in folds.split(",")]
    there = list(dict.fromkeys(model.name for model in models))
    if missing := [name for name in wanted if name not in there]:
        raise ValueError(
            f"--folds: {folds!r} names {missing[0]}, which {folder} does not hold; it holds {', '.join(there)}."
        )
    return [model for model in models if model.name in wanted]


def what_lies_in(folder: Path) -> str:
    """A sentence part that lists what a finished run left and which model it holds."""
    models, files = fold_folders(folder, MODEL_CONFIG), f"{RESULTS}, {REPORT}"
    if not models:
        return f"model, {files}" if has_model(folder) else files
    if has_model(folder):
        return f"model of all clips (the scores are those of its {len(models)} folds), {files}"
    return (
        f"{files}; the models are those of the folds, such as {models[0]} (one of all clips: the same command with "
        "--final_fit true)"
    )

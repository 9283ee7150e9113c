"""What a run makes of a trained model: predictions, its files, example clips, and lines on the terminal."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from ser.data.audio import undecoded
from ser.data.batching import Clips
from ser.data.signal import corpus_signal
from ser.data.splits import Split
from ser.evaluation.by_snr import scores_by_snr
from ser.evaluation.diagnosis import diagnose
from ser.evaluation.format import format_interval
from ser.evaluation.text_tables import class_table
from ser.predictions import prediction_table, read_predictions, test_rows
from ser.run_folder import EXAMPLES, add_to_results
from ser.training.fit import Outputs
from ser.training.jobs import Job
from ser.training.temperature import calibrate, reading_of


def predict(
    job: Job, model: Any, outputs_of: Outputs, parts: dict[str, Clips], labels: list[str]
) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """Scores dev, calibrates a newly trained model on it, then scores test once."""
    tables, args = [], job.training
    calibration = {"reading": reading_of(job.model)} if args.do_train else {}
    wanted = [name for name, asked in (("dev", args.do_eval), ("test", args.do_predict)) if asked]
    for name in wanted:
        logits, truth = outputs_of(parts[name])
        if name == "dev" and args.do_train and job.model.calibrate and truth.ndim == 1:
            logits, calibration = calibrate(model, logits, truth, labels, job.model)
            if outputs_of.are_cut(parts[name]):  # a temperature changes each window, not the mean of their scores
                logits, _ = outputs_of(parts[name])
        run = {"split": name, "seed": job.seed, "fold": job.fold}
        tables.append(prediction_table(parts[name].rows, logits, truth, labels, **run))
    return tables, calibration


def add_scores_by_snr(job: Job, dataset: Any) -> None:
    """Adds the scores of noisy and clean test clips to the results of a run, as their section `snr`."""
    predictions, ids = read_predictions(job.folder), dataset["id"][:]
    tested = set(test_rows(predictions)["id"])
    rows = [row for row, clip in enumerate(ids) if clip in tested]
    if not rows:
        return
    # The whole corpus under its own name in the cache, where data_prep.py may have measured it.
    clips = dataset if len(rows) == len(ids) else dataset.select(rows)
    snr_db = dict(zip(clips["id"][:], corpus_signal(clips, job.data.num_proc or 1)["snr_db"].tolist(), strict=True))
    if found := scores_by_snr(predictions, snr_db, job.labels(dataset)):
        add_to_results(job.folder, snr=found)


def save_model(model: Any, feature_extractor: Any, folder: Path) -> None:
    """Writes what `pipeline("audio-classification")` loads."""
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    # safetensors writes files that nobody but their owner may read.
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", weights)


def write_examples(job: Job, dataset: Any, split: Split, count: int = 3) -> None:
    """Copies test clips of a few emotions into the folder as examples; only synthetic ones: recordings have owners."""
    if job.data.corpus != "synthetic":
        return
    folder = job.folder / EXAMPLES
    folder.mkdir(exist_ok=True)
    emotion_of = dict(zip(dataset["id"], dataset["emotion"], strict=True))
    first_of: dict[int, str] = {}
    for clip in split.test:
        first_of.setdefault(emotion_of[clip], clip)
    chosen = set(list(first_of.values())[:count])
    for row in undecoded(dataset.filter(lambda clip: clip in chosen, input_columns="id")):
        (folder / f"{row['id']}.wav").write_bytes(row["audio"]["bytes"])


def print_scores(results: dict[str, Any], log: list[dict[str, Any]], each_class: bool = True) -> None:
    """Prints problems that were found, the scores of each run, and the pooled scores with their intervals.

    Args:
        results: The content of `results.json`.
        log: The content of `training_log.json`.
        each_class: Whether a table of the classes follows.
    """
    if found := diagnose(results, log):
        print(found.text)
    part = "test" if "test" in results else "dev"
    names = ("ccc",) if results["task"] == "regression" else ("uar", "accuracy", "macro_f1")
    for run in results["per_run"] if len(results["per_run"]) > 1 else []:
        print(f"seed {run['seed']} fold {run['fold']}: " + "  ".join(f"{n} {run[n]:.3f}" for n in names))
    scores = results[part]
    print(
        f"{part}, {scores['n']} clips: "
        + "  ".join(f"{name} {format_interval(scores[name], scores['intervals'].get(name))}" for name in names)
    )
    if each_class:
        print(*class_table(scores), sep="\n")

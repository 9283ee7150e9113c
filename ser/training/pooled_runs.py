"""Pools several runs into one result: the test clips of all folds, each once per seed."""

from pathlib import Path
from typing import Any

import pandas as pd

from ser.data.audit import audit_of_folds
from ser.data.folds import hash_of_folds
from ser.data.splits import load_split
from ser.run_folder import PREDICTIONS, SPLIT, read_results
from ser.training.provenance import control_words, protocol_section, shown_config


def pooled_predictions(folders: list[Path]) -> list[pd.DataFrame]:
    """The predictions of finished runs."""
    return [pd.read_parquet(folder / PREDICTIONS) for folder in folders]


def pooled_context(folders: list[Path], arguments: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """The sections of `results.json` besides the scores, for several pooled runs.

    Args:
        folders: Finished runs that differ only in seed and fold.
        arguments: The arguments of the whole job.
        dataset: The corpus.
    """
    runs = [read_results(folder) for folder in folders]
    splits = {load_split(folder / SPLIT).fold: load_split(folder / SPLIT) for folder in folders}
    first, *_ = splits.values()
    seeds = sorted({seed for run in runs for seed in run["protocol"]["seeds"]})
    protocol = protocol_section(first, runs[0]["protocol"]["num_folds"], seeds, sorted(splits))
    protocol["split_sha256"] = hash_of_folds([splits[fold].sha256 for fold in sorted(splits)])
    protocol["speaker_independent"] = all(split.speaker_independent for split in splits.values())
    protocol["clips"] = {"test": len({clip for split in splits.values() for clip in split.test})}
    kept = ("temperature", "bias", "calibrate_prior")
    calibrations = [run.get("calibration", {}) for run in runs]
    calibrated = [
        {"seed": run["protocol"]["seeds"][0], "fold": run["protocol"]["folds"][0]}
        | {key: own[key] for key in kept if key in own}
        for run, own in zip(runs, calibrations, strict=True)
        if "temperature" in own
    ]
    found = audit_of_folds(list(splits.values()), dataset)
    protocol["what_is_wrong"] = [*found.pop("what_is_wrong"), *control_words(arguments)]
    return {
        **{key: runs[0][key] for key in ("corpus", "label_source", "versions") if key in runs[0]},
        # Folds may have chosen different layers.
        "model": {
            key: own for key, own in runs[0]["model"].items() if all(run["model"].get(key) == own for run in runs)
        },
        "protocol": protocol,
        "audit": found,
        "calibration": {"per_run": calibrated or None, "reading": calibrations[0].get("reading")},
        "seconds": {key: sum(run["seconds"][key] for run in runs) for key in runs[0]["seconds"]},
        "config": shown_config(arguments),
    }

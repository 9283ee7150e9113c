"""The folder of a run without its model: simulated predictions, and the results that `build_results` makes of them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation.results import build_results
from ser.files import write_json

LABELS = ["anger", "neutral", "sadness", "surprise", "happiness", "fear"]
SHARES = [0.33, 0.33, 0.14, 0.08, 0.08, 0.04]
BASELINE = {
    "name": "SVM on functionals",
    "uar": 0.601,
    "interval": [0.55, 0.65],
    "difference": {"uar": 0.04, "interval": [-0.012, 0.085], "p": 0.131},
}


def context(labels: list[str] = LABELS) -> dict[str, Any]:
    """What a run adds to its results, with every section that the report knows."""
    conditions = {
        name: {"uar": uar, "interval": [uar - 0.05, uar + 0.05], "drop": 0.62 - uar, "drop_interval": [0.0, 0.3]}
        for name, uar in (("SNR 20 dB", 0.6), ("SNR 0 dB", 0.3), ("MP3 32 kbit/s", 0.58))
    }
    part = {
        "clips": 400,
        "speakers": 20,
        "genders": {"female": 200, "male": 200},
        "clips_per_class": dict.fromkeys(labels, 66),
        "speakers_per_class": dict.fromkeys(labels, 20),
    }
    return {
        "protocol": {
            "name": "speaker_kfold",
            "speaker_independent": True,
            "num_folds": 5,
            "split_sha256": "663d8d7dceb44adbbf87d84be3a080fb",
            "clips": {"train": 1800, "dev": 600, "test": 600},
        },
        "label_source": "modified",
        "corpus": {
            "name": "simulated speech",
            "licence": "CC BY 4.0",
            "language": "fa",
            "citation": "Nobody, Of Nothing, 2024.",
            "notes": ["Nobody ever said any of this."],
            "skipped": [{"path": "a.wav", "reason": "is empty (0 bytes)"}],
            "clips": 400,
            "speakers": 20,
            "hours": 0.4,
            "clips_per_class": dict.fromkeys(labels, 66),
        },
        "calibration": {"temperature": 1.4},
        "model": {"backbone": "hubert, from scratch", "parameters": 1234567},
        "seconds": {"train": 125.0, "predict": 3.0},
        "versions": {"python": "3.12"},
        "audit": {
            "ok": False,
            "leaks": ["17 of 20 speakers of test are in train."],
            "warnings": [],
            "checked": {"speakers": True, "identical_audio": True, "near_identical_audio": False},
            "parts": {"train": part, "dev": part, "test": part},
            "shared_speakers": {"train/test": {"shared": 17, "of": 20, "speakers": ["F00"]}},
            "identical_audio": [],
            "near_identical_audio": [],
        },
        "baseline": deepcopy(BASELINE),  # whoever changes a section changes its own
        "robustness": {"clean": {"uar": 0.62}, "conditions": conditions},
        "config": {"learning_rate": 5e-5, "augmentations": [{"name": "AddGaussianNoise"}], "data_dir": None},
    }


def predictions(
    labels: list[str] = LABELS, seeds: tuple[int, ...] = (1,), folds: int = 1, speakers: int = 20, mark: str = ""
) -> pd.DataFrame:
    """400 clips of test and 130 of dev; `mark` stands in front of every id and speaker."""
    corpus = np.random.default_rng(0)
    truth = corpus.choice(len(labels), p=SHARES[: len(labels)] / np.sum(SHARES[: len(labels)]), size=400)
    speaker = np.arange(400) % speakers
    ease, seconds = corpus.normal(0, 0.8, (speakers, len(labels)))[speaker], corpus.lognormal(1.15, 0.6, 400)
    tables = []
    for seed in seeds:
        logits = ease + np.random.default_rng(seed).gumbel(0, 0.5, size=ease.shape)
        logits[np.arange(400), truth] += 1.6
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = pd.DataFrame(
            {
                "id": [f"{mark}{'FM'[s % 2]}{s:02d}S{clip:03d}" for clip, s in enumerate(speaker)],
                "split": "test",
                "seed": seed,
                "fold": speaker % folds,
                "speaker": [f"{mark}{'FM'[s % 2]}{s:02d}" for s in speaker],
                "gender": np.where(speaker % 2, "male", "female"),
                "duration": seconds,
                "truth": np.array(labels)[truth],
                **{f"p_{label}": p[:, c] for c, label in enumerate(labels)},
            }
        )
        tables += [table, table.head(130).assign(split="dev")]
    return pd.concat(tables, ignore_index=True)


def training_log() -> list[dict[str, float]]:
    """What `Trainer` logs over three epochs, its closing summary included."""
    log = []
    for epoch in (1, 2, 3):
        log.append({"loss": 1.8 / epoch, "learning_rate": 1e-4, "epoch": epoch - 0.5, "step": 10 * epoch - 5})
        log.append({"eval_loss": 1.9 / epoch, "eval_uar": 0.2 * epoch, "epoch": float(epoch), "step": 10 * epoch})
    return [*log, {"train_runtime": 12.0, "train_loss": 1.1, "epoch": 3.0, "step": 30}]


def write_run(folder: Path, table: pd.DataFrame, labels: list[str], sections: dict[str, Any], log: Any = None) -> Path:
    """Writes what the report reads, as a run does."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "predictions.parquet", index=False)
    write_json(build_results(table, labels, sections), folder / "results.json")
    if log is not None:
        write_json(log, folder / "training_log.json")
    return folder

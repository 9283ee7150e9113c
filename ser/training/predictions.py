"""Scores of clips as the table that every figure is computed from."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.training.trainer import softmax


def prediction_table(
    rows: Any, outputs: np.ndarray, targets: np.ndarray, labels: list[str], **run: Any
) -> pd.DataFrame:
    """One row a clip: id, speaker, gender, duration, corpus, truth and the probability of each class.

    Args:
        rows: The clips, a Dataset with the columns id, speaker, gender, duration and, if known, corpus.
        outputs: Logits `[N, C]`, or values `[N, D]` when `targets` are values too.
        targets: Class numbers `[N]`, or values `[N, D]`.
        labels: Names of classes or dimensions.
        run: Constant columns: split, seed, fold.
    """
    table = pd.DataFrame({"id": rows["id"], **run})
    for column in ("speaker", "gender", "duration", *(["corpus"] if "corpus" in rows.column_names else [])):
        table[column] = rows[column]
    if targets.ndim == 2:
        for place, name in enumerate(labels):
            table[f"truth_{name}"] = targets[:, place].astype(np.float64)
            table[f"pred_{name}"] = outputs[:, place].astype(np.float64)
        return table
    table["truth"] = [labels[index] for index in targets]
    probabilities = softmax(outputs)
    for place, name in enumerate(labels):
        table[f"p_{name}"] = probabilities[:, place]
    return table


def write_predictions(tables: list[pd.DataFrame], path: Path) -> pd.DataFrame:
    """Writes tables as one Parquet file, whole or not at all, and returns them joined."""
    table = pd.concat(tables, ignore_index=True).sort_values(["seed", "fold", "split", "id"], ignore_index=True)
    partial = path.with_name(f".{path.name}.partial")
    table.to_parquet(partial, index=False)
    os.replace(partial, path)
    return table

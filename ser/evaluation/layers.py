"""What each layer of a frozen backbone is worth, by cross-validation inside train: `layers.parquet` made a section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation import metrics
from ser.evaluation.intervals import cluster_sums, score_intervals
from ser.files import draft_of
from ser.run_folder import LAYERS


def write_layers(held_out: Sequence[pd.DataFrame], folder: Path) -> None:
    """Writes the held-out predictions of the layers, of one run or of several folds, whole or not at all."""
    if held_out:
        with draft_of(folder / LAYERS) as draft:
            pd.concat(held_out, ignore_index=True).to_parquet(draft, index=False)


def pooled_layers(folders: Sequence[Path]) -> list[pd.DataFrame]:
    """The tables of several runs; folds under another seed that chose from the same are taken once."""
    tables = [pd.read_parquet(folder / LAYERS) for folder in folders if (folder / LAYERS).is_file()]
    first: dict[int, pd.DataFrame] = {}
    for table in tables:
        first.setdefault(int(table["fold"].iloc[0]), table)
    return list(first.values())


def layer_section(held_out: Sequence[pd.DataFrame], labels: Sequence[str]) -> list[dict[str, Any]] | None:
    """The section `layers` of `results.json`: of each layer `uar` (or `ccc`) over held-out clips of train.

    Clips that several folds held out count once a fold, and a speaker is drawn with all of them. `chosen` is the
    number of folds that chose the layer. The score of a chosen layer is a little too good, as it was the best of many;
    the test set is what measures the model.

    Args:
        held_out: One table a fold, see `ser.training.layer_choice.Choice`.
        labels: Names of the classes or dimensions.

    Returns:
        None where there was no choice between layers.
    """
    if not held_out or held_out[0]["layer"].nunique() < 2:
        return None
    chosen = [table.loc[table["chosen"], "layer"].iloc[0] for table in held_out]
    pooled = pd.concat(held_out, ignore_index=True)
    score = _ccc if f"truth_{labels[0]}" in pooled else _uar
    return [
        {"layer": layer, **score(rows, labels), "chosen": chosen.count(layer)}
        for layer, rows in pooled.groupby("layer", sort=False)
    ]


def _uar(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    index = {label: place for place, label in enumerate(labels)}
    truth, predicted = rows["truth"].map(index).to_numpy(), rows["predicted"].map(index).to_numpy()
    clusters = rows["speaker"] if rows["speaker"].notna().all() else rows["id"]
    codes = pd.factorize(clusters)[0]
    sums = cluster_sums(codes, truth * len(labels) + predicted, len(labels) ** 2)
    confusions = sums.reshape(-1, 1, len(labels), len(labels))
    uar = float(metrics.uar(confusions.sum(axis=(0, 1))))
    return {"uar": uar, "interval": score_intervals(confusions, list(labels))["uar"]}


def _ccc(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    found = [metrics.concordance(rows[f"truth_{name}"], rows[f"predicted_{name}"]) for name in labels]
    return {"ccc": float(np.mean(found)), "interval": None}

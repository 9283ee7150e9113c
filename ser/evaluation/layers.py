"""The section `layers` of `results.json`: scores of each layer of a frozen backbone, cross-validated inside train."""

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
    """The tables of several runs; a fold that several seeds share is taken once."""
    tables = [pd.read_parquet(folder / LAYERS) for folder in folders if (folder / LAYERS).is_file()]
    first: dict[int, pd.DataFrame] = {}
    for table in tables:
        first.setdefault(int(table["fold"].iloc[0]), table)
    return list(first.values())


def layer_section(held_out: Sequence[pd.DataFrame], labels: Sequence[str]) -> list[dict[str, Any]] | None:
    """The section `layers` of `results.json`: `uar` (or `ccc`) of each layer over held-out clips of train.

    A clip that several folds held out counts once in each, and a speaker is drawn with all of these clips. `chosen` is
    the number of folds that chose the layer. The score of a chosen layer is a little too good, since it is the best of
    many; the test score measures the model.

    Args:
        held_out: One table for each fold, see `ser.training.layer_choice.Choice`.
        labels: Names of the classes or dimensions.

    Returns:
        None where there is only one layer.
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
    index_of = {label: index for index, label in enumerate(labels)}
    truth, predicted = rows["truth"].map(index_of).to_numpy(), rows["predicted"].map(index_of).to_numpy()
    clusters = rows["speaker"] if rows["speaker"].notna().all() else rows["id"]
    codes = pd.factorize(clusters)[0]
    sums = cluster_sums(codes, truth * len(labels) + predicted, len(labels) ** 2)
    confusions = sums.reshape(-1, 1, len(labels), len(labels))
    uar = float(metrics.uar(confusions.sum(axis=(0, 1))))
    return {"uar": uar, "interval": score_intervals(confusions, list(labels))["uar"]}


def _ccc(rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    found = [metrics.concordance(rows[f"truth_{name}"], rows[f"predicted_{name}"]) for name in labels]
    return {"ccc": float(np.mean(found)), "interval": None}

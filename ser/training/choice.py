"""Chooses among settings by dev scores, measures that choice on test, and corrects p values of many comparisons."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation.intervals import score_intervals
from ser.evaluation.metrics import confusion_matrix, uar
from ser.evaluation.scored import scored, truth_and_probabilities
from ser.predictions import labels_of

RUN = ["seed", "fold"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects the p values of m comparisons: the chance of any false alarm at 0.05 is then at most 5 %.

    The k-th smallest is multiplied by m - k + 1 and is at least the one before: Holm, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values, float)[order] * factors), 1.0)
    return corrected[np.argsort(order, kind="stable")].tolist()


def dev_scores(predictions: pd.DataFrame) -> dict[tuple[int, int], float]:
    """UAR on dev of each run, by (seed, fold); empty where dev was not scored."""
    labels, dev = labels_of(predictions), predictions[predictions["split"] == "dev"]
    found = {}
    for run, rows in dev.groupby(RUN):
        truth, probabilities = truth_and_probabilities(rows, labels)
        found[run] = float(uar(confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))))
    return found


def chosen_by_dev(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """The test score when each run chooses the best setting by its own dev set.

    With `--fold all` the dev clips of one fold are test clips of another, so a choice by all dev clips has seen test.
    A run that chooses by its own dev set has not, and its test score is a fair score of the choice.

    Args:
        tables: Predictions of every setting, by name, of the same runs.

    Returns:
        `uar`, its `interval`, `n`, and `chosen`, how many runs chose each setting; `None` where dev was not scored.
    """
    by_setting = {name: dev_scores(table) for name, table in tables.items()}
    runs = next(iter(by_setting.values()))
    if not runs or any(own.keys() != runs.keys() for own in by_setting.values()):
        return None

    def best_setting(run: tuple[int, int]) -> str:
        return max(by_setting, key=lambda name: by_setting[name][run])  # the first of equal settings

    best = {run: best_setting(run) for run in runs}
    rows = pd.concat([_test_of(tables[name], run) for run, name in best.items()], ignore_index=True)
    table, labels = scored(rows, labels_of(rows)), labels_of(rows)
    return {
        "uar": float(uar(table.confusions().sum(axis=0)).mean()),
        "interval": score_intervals(table.confusions(), labels, moments=table.moments())["uar"],
        "n": rows["id"].nunique(),
        "chosen": dict(Counter(best.values())),
    }


def _test_of(table: pd.DataFrame, run: tuple[int, int]) -> pd.DataFrame:
    return table[(table["split"] == "test") & (table["seed"] == run[0]) & (table["fold"] == run[1])]

"""Scores of each corpus of a run that is tested on several."""

from typing import Any

import pandas as pd

from ser.evaluation import sections
from ser.evaluation.format import HEADLINES
from ser.predictions import dimensions_of


def corpora_section(test: pd.DataFrame, labels: list[str]) -> dict[str, dict[str, Any]]:
    """The scores of each corpus, by name; empty where the predictions name one or none, as older ones do.

    Args:
        test: Predictions of test, with the column `corpus`.
        labels: Names of the classes, or of the dimensions of a regression.
    """
    if "corpus" not in test or test["corpus"].nunique() < 2:
        return {}
    return {str(name): corpus_scores(rows, labels) for name, rows in test.groupby("corpus")}


def corpus_scores(rows: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    """The scores of one corpus, mean over seeds.

    Args:
        rows: Predictions of test.
        labels: As for [`corpora_section`].

    Returns:
        `uar`, `accuracy` and `macro_f1` with 95 % `intervals`, `n` and `speakers` (None where unknown). UAR is over the
        classes that the corpus has; `lacks` names the others. For a regression, `ccc` in the place of the three.
    """
    if dimensions_of(rows):
        scores, how = sections.regression_scores(rows, labels), sections.regression_intervals(rows, labels)
        lacks = []
    else:
        scores, how = sections.classification_scores(rows, labels), sections.classification_intervals(rows, labels)
        lacks = [label for label, entry in scores["per_class"].items() if not entry["support"]]
    names = [name for name in HEADLINES if name in scores]
    return {
        "n": scores["n"],
        "speakers": rows["speaker"].nunique() or None,
        **{name: scores[name] for name in names},
        "intervals": {name: how["intervals"].get(name) for name in names},
        "interval_unit": how["interval_unit"],
        "lacks": lacks,
    }

"""Scores and intervals of one split of the predictions, of a classification or a regression."""

from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation import intervals, least_errors, metrics, subgroups
from ser.evaluation.calibration_sections import UNIT
from ser.evaluation.scored import cluster_codes, scored, truth_and_probabilities


def classification_scores(rows: pd.DataFrame, labels: list[str]) -> dict:
    """The scores of some rows, mean over seeds.

    Args:
        rows: Predictions of one split.
        labels: Names of the classes.

    Returns:
        The keys of `metrics.score`, and `unit`: counts are of clips, and with several seeds the mean over them.
    """
    truth, probabilities = truth_and_probabilities(rows, labels)
    per_seed = [metrics.score(truth[s], probabilities[s], labels) for s in _rows_of_seeds(rows)]
    return {**_mean_over_seeds(per_seed), "n": rows["id"].nunique(), "unit": UNIT}


def classification_intervals(rows: pd.DataFrame, labels: list[str]) -> dict:
    """95 % intervals of the scores of one split.

    Args:
        rows: Predictions of one split.
        labels: Names of the classes.

    Returns:
        `intervals` (`uar`, `accuracy`, `macro_f1`, `ece` and `recall` by label), `interval_unit` ("speaker" or "clip"),
        `interval_method`, `interval_level`, and `clusters`, the number of speakers or clips that were drawn from.
        `few_speakers`, if there are such: the classes that only one or two speakers have, with the number of speakers.
    """
    table = scored(rows, labels)
    confusions, moments = table.confusions(), table.moments()
    bounds = intervals.score_intervals(confusions, labels, moments=moments)
    bounds["ece"] = intervals.plain_interval(subgroups.calibration_spread(table), (0.0, 1.0))
    speakers, few = (moments[..., 0] > 0).sum(axis=0), least_errors.held_by_few(moments)
    named = {labels[c]: int(speakers[c]) for c in np.flatnonzero(few)} if table.unit == "speaker" else {}
    return {"intervals": bounds, **_how(table.unit, len(confusions)), **({"few_speakers": named} if named else {})}


def regression_scores(rows: pd.DataFrame, dimensions: list[str]) -> dict:
    """The scores of some rows of a regression, mean over seeds: the keys of `metrics.score_regression`."""
    truth, predicted = _values(rows, dimensions)
    return {
        **_mean_over_seeds(
            [metrics.score_regression(truth[s], predicted[s], dimensions) for s in _rows_of_seeds(rows)]
        ),
        "n": rows["id"].nunique(),
    }


def regression_intervals(rows: pd.DataFrame, dimensions: list[str]) -> dict:
    """95 % intervals of CCC: `intervals` with `ccc` and, by name, `per_dimension`; the rest as for classes."""
    truth, predicted = _values(rows, dimensions)
    seeds = np.unique(rows["seed"], return_inverse=True)[1]
    codes, unit = cluster_codes(rows)
    clips, terms = pd.factorize(rows["id"])[0], metrics.concordance_terms(truth, predicted)
    moments, of_clips = (np.zeros((own.max() + 1, seeds.max() + 1, *terms.shape[1:])) for own in (codes, clips))
    np.add.at(moments, (codes, seeds), terms)
    np.add.at(of_clips, (clips, seeds), terms)
    *each, mean = intervals.concordance_intervals(moments, of_clips)
    bounds = {"ccc": mean, "per_dimension": dict(zip(dimensions, each, strict=True))}
    return {"intervals": bounds, **_how(unit, len(moments))}


def _values(rows: pd.DataFrame, dimensions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted values, `[N, K]` each."""
    truth, predicted = (rows[[f"{kind}_{name}" for name in dimensions]].to_numpy() for kind in ("truth", "pred"))
    return truth, predicted


def _rows_of_seeds(rows: pd.DataFrame) -> list[np.ndarray]:
    """Indices of the rows of each seed."""
    seeds = rows["seed"].to_numpy()
    return [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]


def _how(unit: str, clusters: int) -> dict:
    """The method of an interval, for readers of `results.json`."""
    return {
        "interval_unit": unit,
        "interval_method": intervals.METHOD.format(unit=unit),
        "interval_level": intervals.LEVEL,
        "clusters": clusters,
    }


def _mean_over_seeds(scores: list[Any]) -> Any:
    """The mean of scores in their own shape: of floats (`None` if one is `None`) and of confusions; counts are kept."""
    first = scores[0]
    if isinstance(first, dict):
        return {name: _mean_over_seeds([score[name] for score in scores]) for name in first}
    if isinstance(first, list):
        return first if len(scores) == 1 else np.mean(scores, axis=0).tolist()
    if isinstance(first, int):
        return first
    return None if None in scores else float(np.mean(scores))

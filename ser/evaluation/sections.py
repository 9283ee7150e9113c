"""The sections of `results.json` that need one split of the predictions: scores, regression, calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation import calibration, intervals, least_errors, metrics, subgroups
from ser.evaluation.predictions import cluster_codes, scored, truth_and_probabilities

PRECISION_TARGET = 0.9
BIN_RULE = (
    f"equal-mass bins of the top probability, at most {calibration.MAX_BINS}, of {calibration.MIN_CLIPS_PER_BIN} clips "
    "or more; bias subtracted (Kumar et al. 2019)"
)


def classification_scores(rows: pd.DataFrame, labels: list[str]) -> dict:
    """The scores of some rows, mean over seeds.

    Args:
        rows: Predictions of one split.
        labels: Names of the classes.

    Returns:
        The keys of `metrics.score`, where `n` counts a clip once and `confusion` adds up the seeds.
    """
    truth, probabilities = truth_and_probabilities(rows, labels)
    per_seed = [metrics.score(truth[s], probabilities[s], labels) for s in _rows_of_seeds(rows)]
    return {**_mean_over_seeds(per_seed), "n": rows["id"].nunique()}


def classification_intervals(rows: pd.DataFrame, labels: list[str]) -> dict:
    """95 % intervals of the scores of one split.

    Args:
        rows: Predictions of one split.
        labels: Names of the classes.

    Returns:
        `intervals` (`uar`, `accuracy`, `macro_f1`, `ece` and `recall` by label), `interval_unit` ("speaker" or "clip"),
        `interval_method`, `interval_level`, and `clusters`, the number of speakers or clips that were drawn from.
        `few_speakers`, where there are any: the classes that one or two speakers alone have, with their number.
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


def calibration_section(parts: Mapping[str, pd.DataFrame], labels: list[str], known: Mapping[str, Any]) -> dict:
    """What the temperature did, and what the probabilities are good for.

    Args:
        parts: Predictions by split.
        labels: Names of the classes.
        known: `temperature` of a single run, or `per_run` of pooled ones, a list of `seed`, `fold`, `temperature`;
            neither when nothing was calibrated. Other keys are passed on.

    Returns:
        `bin_rule`; of test `reliability` and `abstain`; `precision_90`. With a temperature also `temperature` (the
        mean of pooled runs), `reliability_before`, and `nll`, `ece`, `brier` of test, each with `_before` and `_after`;
        the same of dev with `dev_` in front.
    """
    known = {name: value for name, value in known.items() if value is not None}
    section: dict[str, Any] = {"bin_rule": BIN_RULE, **known}
    if "temperature" not in section and known.get("per_run"):
        section["temperature"] = float(np.mean([run["temperature"] for run in known["per_run"]]))
    for split, rows in parts.items():
        truth, probabilities = truth_and_probabilities(rows, labels)
        before = calibration.rescale(probabilities, _temperatures(rows, known)) if "temperature" in section else None
        if before is not None:
            prefix = "" if split == "test" else f"{split}_"
            section |= _before_and_after(prefix, before, probabilities, truth)
        if split == "test":
            section["reliability"] = calibration.reliability(probabilities, truth)
            section["abstain"] = calibration.risk_coverage(probabilities, truth)
            if before is not None:
                section["reliability_before"] = calibration.reliability(before, truth)
    return {**section, "precision_90": _precision_section(parts, labels)}


def _precision_section(parts: Mapping[str, pd.DataFrame], labels: list[str]) -> dict:
    """The `threshold` of confidence for 90 % precision, chosen on dev, and what it gives on `dev` and on `test`.

    `threshold` is `None` without dev, and where no threshold gets there.
    """
    arrays = {split: truth_and_probabilities(rows, labels) for split, rows in parts.items()}
    if "dev" not in arrays:
        return {"threshold": None}
    threshold = calibration.threshold_for_precision(*arrays["dev"][::-1], precision=PRECISION_TARGET)
    if threshold is None:
        return {"threshold": None}
    gives = {split: calibration.precision_at(scores, truth, threshold) for split, (truth, scores) in arrays.items()}
    return {"threshold": threshold, **gives}


def _before_and_after(prefix: str, before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> dict:
    """NLL, ECE and Brier score of the probabilities before and after calibration."""
    scores = {
        "nll": calibration.negative_log_likelihood,
        "ece": calibration.expected_calibration_error,
        "brier": calibration.brier_score,
    }
    return {
        f"{prefix}{name}_{when}": score(probabilities, truth)
        for name, score in scores.items()
        for when, probabilities in (("before", before), ("after", after))
    }


def _temperatures(rows: pd.DataFrame, known: Mapping[str, Any]) -> np.ndarray:
    """The temperature of each row's run, `[N]`.

    Raises:
        ValueError: A run of the predictions is not among `per_run`.
    """
    if not known.get("per_run"):
        return np.full(len(rows), known["temperature"])
    by_run = {(run["seed"], run["fold"]): run["temperature"] for run in known["per_run"]}
    runs = list(zip(rows["seed"], rows["fold"], strict=True))
    missing = sorted({tuple(map(int, run)) for run in runs} - by_run.keys())
    if missing:
        raise ValueError(
            f"calibration.per_run lacks a temperature of (seed, fold) {missing}; it has {sorted(by_run)}: pool the "
            "same runs as the predictions"
        )
    return np.array([by_run[run] for run in runs])


def _values(rows: pd.DataFrame, dimensions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted values, `[N, K]` each."""
    truth, predicted = (rows[[f"{kind}_{name}" for name in dimensions]].to_numpy() for kind in ("truth", "pred"))
    return truth, predicted


def _rows_of_seeds(rows: pd.DataFrame) -> list[np.ndarray]:
    """Positions of the rows of each seed."""
    seeds = rows["seed"].to_numpy()
    return [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]


def _how(unit: str, clusters: int) -> dict:
    """How an interval was made, for whoever reads it."""
    return {
        "interval_unit": unit,
        "interval_method": intervals.METHOD.format(unit=unit),
        "interval_level": intervals.LEVEL,
        "clusters": clusters,
    }


def _mean_over_seeds(scores: list[Any]) -> Any:
    """One score of the same shape: means of floats (`None` if one is), sums of confusions, counts as they are."""
    first = scores[0]
    if isinstance(first, dict):
        return {name: _mean_over_seeds([score[name] for score in scores]) for name in first}
    if isinstance(first, list):
        return np.sum(scores, axis=0).tolist()
    if isinstance(first, int):
        return first
    return None if None in scores else float(np.mean(scores))

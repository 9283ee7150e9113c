"""The section `calibration` of `results.json`: how the temperature and class biases from dev
change the scores of test."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ser.evaluation import calibration, metrics
from ser.evaluation.abstention import precision_section, risk_coverage
from ser.evaluation.scored import truth_and_probabilities

BIN_RULE = (
    f"equal-mass bins of the top probability, at most {calibration.MAX_BINS}, of {calibration.MIN_CLIPS_PER_BIN} clips "
    "or more; bias subtracted (Kumar et al. 2019)"
)
UNIT = "clip; of several seeds, the mean over them"
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "nll": calibration.negative_log_likelihood,
    "ece": calibration.expected_calibration_error,
    "classwise_ece": lambda probabilities, truth: calibration.class_calibration_errors(probabilities, truth).mean(),
    "brier": calibration.brier_score,
}


def calibration_section(parts: Mapping[str, pd.DataFrame], labels: list[str], known: Mapping[str, Any]) -> dict:
    """The effect of calibration, and the quality of the probabilities. Every figure is a mean over seeds.

    Args:
        parts: Predictions by split.
        labels: Names of the classes.
        known: For a single run `temperature`, `bias` (by label) and `calibrate_prior`, whether the biases are in the
            scores. For pooled runs `per_run`, a list of these with `seed` and `fold`. Neither where nothing was
            calibrated. Other keys are passed on, such as `reading`, the class frequencies for which the scores hold:
            "balanced" or "corpus".

    Returns:
        `bin_rule` and `unit`; `reliability` and `abstain` of test; `precision_90`. With a temperature also
        `temperature` (for pooled runs their mean), `reliability_before`, and `nll`, `ece`, `classwise_ece`, `brier` of
        test, each with `_before` and `_after`; those of dev begin with `dev_`. With biases also `readings`: these four,
        `uar` and `accuracy` of test without the biases (`without_prior`) and with them (`with_prior`).
    """
    known = {name: value for name, value in known.items() if value is not None}
    section: dict[str, Any] = {"bin_rule": BIN_RULE, "unit": UNIT, **known}
    if "temperature" not in section and known.get("per_run"):
        section["temperature"] = float(np.mean([run["temperature"] for run in known["per_run"]]))
    for split, rows in parts.items():
        truth, after = truth_and_probabilities(rows, labels)
        if "temperature" in section:
            temperature, bias, folded = run_values(rows, labels, known)
            without = calibration.shift(after, -bias * folded)
            before = calibration.rescale(without, temperature)
            prefix = "" if split == "test" else f"{split}_"
            for when, scores in (("before", before), ("after", after)):
                section |= {f"{prefix}{k}_{when}": v for k, v in _scores(rows, scores, truth).items()}
            if split == "test":
                section["reliability_before"] = calibration.reliability(before, truth, pd.factorize(rows["id"])[0])
            if split == "test" and bias.any():
                readings = {"without_prior": without, "with_prior": calibration.shift(without, bias)}
                section["readings"] = {k: _scores(rows, p, truth, decisions=True) for k, p in readings.items()}
        if split == "test":
            section["reliability"] = calibration.reliability(after, truth, pd.factorize(rows["id"])[0])
            section["abstain"] = risk_coverage(after, truth, num_seeds=rows["seed"].nunique())
    return {**section, "precision_90": precision_section(parts, labels)}


def run_values(
    rows: pd.DataFrame, labels: list[str], known: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Temperature `[N]`, biases `[N, C]`, and whether these are in the scores, `[N, 1]`, of each row's run.

    Raises:
        ValueError: `per_run` lacks a run of the predictions.
    """
    runs = list(zip(rows["seed"], rows["fold"], strict=True))
    by_run = {(run["seed"], run["fold"]): run for run in known.get("per_run", [])} or dict.fromkeys(runs, known)
    missing = sorted({tuple(map(int, run)) for run in runs} - by_run.keys())
    if missing:
        raise ValueError(
            f"calibration.per_run lacks the temperature of (seed, fold) {missing}; it has {sorted(by_run)}: pool the "
            "same runs as the predictions"
        )
    own = {run: _values_of(values, labels) for run, values in by_run.items()}
    values = np.array([own[run] for run in runs])
    return values[:, 0], values[:, 2:], values[:, 1:2]


def _values_of(run: Mapping[str, Any], labels: list[str]) -> list[float]:
    """Temperature, whether the biases are in the scores (0 or 1), and the biases."""
    bias = run.get("bias") or {}
    return [run["temperature"], float(bool(run.get("calibrate_prior"))), *(bias.get(label, 0.0) for label in labels)]


def _score_of_decisions(score: Callable[[np.ndarray], Any], probabilities: np.ndarray, truth: np.ndarray) -> float:
    return float(score(metrics.confusion_matrix(truth, probabilities.argmax(axis=1), probabilities.shape[1])))


def _scores(rows: pd.DataFrame, probabilities: np.ndarray, truth: np.ndarray, decisions: bool = False) -> dict:
    """The four scores of probabilities and, with `decisions`, UAR and accuracy; each a mean over seeds."""
    kinds: dict[str, Callable[[np.ndarray, np.ndarray], float]] = dict(SCORES)
    if decisions:
        for name, score in (("uar", metrics.uar), ("accuracy", metrics.accuracy)):
            kinds[name] = partial(_score_of_decisions, score)
    seeds = [rows["seed"].to_numpy() == seed for seed in rows["seed"].unique()]
    return {name: float(np.mean([kind(probabilities[s], truth[s]) for s in seeds])) for name, kind in kinds.items()}

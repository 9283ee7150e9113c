"""Answering only where the model is sure: the abstain curve, and a threshold whose precision holds for new speakers.

The lowest threshold at which 9 of 10 answers on dev were right is too good by luck: it is the best of many. Here each
threshold stands for a hypothesis, "at this confidence fewer than 9 answers in 10 are right", and it is taken only if
dev rejects that hypothesis. Thresholds are tested from high to low along fixed sequences, each until its first
failure, with an error rate of 5 % in all: Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test", arXiv
2110.01052, section 3.2. The unit of a test is the speaker. With few speakers or few clips no threshold passes, and none
is given (`benchmarks/interval_coverage.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ser.evaluation import intervals, least_errors
from ser.evaluation.calibration import confidence_of, per_seed
from ser.evaluation.scored import cluster_codes, truth_and_probabilities

PRECISION_TARGET = 0.9
DOUBT = 0.05
# Thresholds that answer 5, 10, ..., 100 % of dev; the four sequences begin at 20, 40, 60 and 80 %.
STEPS = 20
STARTS = (3, 7, 11, 15)
# With fewer speakers even perfect answers do not pass the test, unless there are hundreds of them.
FEWEST_SPEAKERS = 3


def risk_coverage(probabilities: np.ndarray, truth: np.ndarray, points: int = 101, num_seeds: int = 1) -> dict:
    """The abstain curve: accuracy over the answered clips when the model abstains on the least confident ones.

    Clips of equal confidence are answered or left together. Geifman and El-Yaniv, "Selective Classification for Deep
    Neural Networks", NeurIPS 2017.

    Args:
        probabilities: `[N, C]`.
        truth: `[N]`.
        points: Greatest number of points to return, spread evenly over the coverage.
        num_seeds: Number of rows of each clip.

    Returns:
        Lists from small to full coverage: `threshold` (answer at this confidence or above), `coverage` in (0, 1],
        `accuracy`, and `n` (clips answered, mean over seeds).
    """
    confidence, right = confidence_of(probabilities, truth)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    last_of_its_kind = np.flatnonzero(np.append(np.diff(confidence) != 0, True))
    chosen = np.unique(np.linspace(0, len(last_of_its_kind) - 1, points).round().astype(int))
    cut = last_of_its_kind[chosen]
    answered = cut + 1
    return {
        "threshold": confidence[cut].tolist(),
        "coverage": (answered / len(right)).tolist(),
        "accuracy": (np.cumsum(right)[cut] / answered).tolist(),
        "n": per_seed(answered, num_seeds).tolist(),
    }


def threshold_for_precision(
    probabilities: np.ndarray, truth: np.ndarray, cluster: np.ndarray, precision: float = PRECISION_TARGET
) -> float | None:
    """The lowest threshold for which dev shows, at 95 % confidence, this precision for new speakers.

    Args:
        probabilities: `[N, C]`.
        truth: `[N]`.
        cluster: Number of each clip's speaker, from 0, `[N]`; of the clip itself where speakers are not known.
        precision: Share of answers that must be right, in (0, 1).

    Returns:
        A threshold in [0, 1], or `None` where dev shows it for no threshold.
    """
    confidence, right = confidence_of(probabilities, truth)
    indices = np.ceil(np.arange(1, STEPS + 1) / STEPS * len(right)).astype(int) - 1
    thresholds = np.sort(confidence)[::-1][indices]
    passed = [
        precision_p_value(right[own], cluster[own], precision) <= DOUBT / len(STARTS)
        for own in (confidence >= threshold for threshold in thresholds)
    ]
    reached = [thresholds[k] for start in STARTS for k in range(start, STEPS) if all(passed[start : k + 1])]
    return float(min(reached)) if reached else None


def precision_p_value(right: np.ndarray, cluster: np.ndarray, precision: float) -> float:
    """One-sided p, in [0, 1], of the hypothesis that at most this share of the answers for new speakers is right.

    Student's t test of the share over speakers. Where nearly every answer is right, the observed variance is too small.
    It is therefore taken as at least the variance of the share under test for as many independent clips, times the
    observed design effect.

    Args:
        right: Whether each answer is right, bool `[N]`.
        cluster: Number of each answer's speaker, `[N]`.
        precision: The share under test.
    """
    clips = np.bincount(cluster)
    hits, clips = np.bincount(cluster, right)[clips > 0], clips[clips > 0]
    spread, total = intervals.share_spread(hits, clips), clips.sum()
    if not np.isfinite(spread.deviation):
        return 1.0
    alone = spread.value * (1 - spread.value) / total
    design = max(spread.deviation**2 / alone, 1.0) if alone > 0 else 1.0
    variance = max(spread.deviation**2, design * precision * (1 - precision) / total)
    return float(student.sf((spread.value - precision) / np.sqrt(variance), spread.freedom))


def precision_section(parts: Mapping[str, pd.DataFrame], labels: list[str]) -> dict[str, Any]:
    """The threshold of confidence for 90 % precision, chosen on dev of each run, and its precision on test.

    Under `--fold all` the dev clips of one fold are test clips of another. Each run therefore chooses on its own dev.

    Args:
        parts: Predictions by split, of one run or of several.
        labels: Names of the classes.

    Returns:
        `test` first (`precision`, its 95 % `interval`, `coverage`, `n` answered), then `dev` with the same keys;
        `threshold` for a single run; `per_run` (`seed`, `fold`, `threshold`) for several. Also `target`, the
        `confidence` with which it holds, and `unit`, "speaker" or "clip", which the test on dev takes as independent.
        Where no run has a threshold, `why` takes the place of `test` and `dev`.
    """
    if "dev" not in parts:
        return {"threshold": None, "why": "dev was not scored"}
    runs = dict(list(parts["dev"].groupby(["seed", "fold"])))
    chosen = {run: threshold_for_precision(*arrays_of(rows, labels)) for run, rows in runs.items()}
    named = parts["dev"]["speaker"].notna().all()
    common: dict[str, Any] = {
        "target": PRECISION_TARGET,
        "confidence": 1 - DOUBT,
        "unit": "speaker" if named else "clip",
    }
    if len(chosen) > 1:
        common["per_run"] = [{"seed": s, "fold": f, "threshold": value} for (s, f), value in chosen.items()]
    if not any(value is not None for value in chosen.values()):
        return {"threshold": None, "why": _why(runs, named), **common}
    gives = {split: _gives(parts[split], chosen, labels) for split in ("test", "dev") if split in parts}
    return {**gives, "threshold": next(iter(chosen.values())) if len(chosen) == 1 else None, **common}


def arrays_of(rows: pd.DataFrame, labels: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, truth and speaker of each row, as `threshold_for_precision` takes them."""
    truth, probabilities = truth_and_probabilities(rows, labels)
    known = rows["speaker"].notna().all()
    return probabilities, truth, pd.factorize(rows["speaker" if known else "id"])[0]


def _gives(rows: pd.DataFrame, chosen: Mapping[tuple[int, int], float | None], labels: list[str]) -> dict[str, Any]:
    """`precision`, `interval`, `coverage` and `n` (clips, mean over seeds) of answering above each run's threshold."""
    confidence, right = confidence_of(*truth_and_probabilities(rows, labels)[::-1])
    runs = zip(rows["seed"], rows["fold"], strict=True)
    thresholds = [chosen.get(run) for run in runs]
    answered = confidence >= np.array([np.inf if value is None else value for value in thresholds])
    count = per_seed(answered.sum(), rows["seed"].nunique()).item()
    found = {"coverage": float(answered.mean()), "n": count}
    if not answered.any():
        return {"precision": None, "interval": None, **found}
    own, right = rows[answered], right[answered]
    clusters, clips = cluster_codes(own)[0], pd.factorize(own["id"])[0]
    values, nothing = np.bincount(clips, right) / np.bincount(clips), np.zeros(clips.max() + 1, int)
    least = least_errors.clip_error(least_errors.class_moments(nothing, nothing, values, 1))
    spread = replace(intervals.share_spread(np.bincount(clusters, right), np.bincount(clusters)), least=least)
    return {"precision": spread.value, "interval": intervals.bounded_interval(spread, len(values)), **found}


def _why(runs: Mapping[tuple[int, int], pd.DataFrame], named: bool) -> str:
    """Why no threshold was found, as the end of a sentence."""
    most = max(rows["speaker"].nunique() for rows in runs.values())
    if named and most < FEWEST_SPEAKERS:
        return f"dev has {most} speaker{'s' * (most > 1)}, too few to say anything about others"
    return "no threshold reaches it"

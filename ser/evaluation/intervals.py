"""Intervals of a score that hold for new speakers: a bootstrap over speakers, since a speaker's clips are dependent.

A speaker is drawn with all of their clips, under all seeds; a score over several seeds is its mean over them. The
spread of the score over the draws is its standard error, and Student's quantile turns that into an interval on the
logit scale, which keeps it within [0, 1]:

    expit(logit(s) +- t_{G-1} * sqrt(G / (G - 1)) * sd(draws) / (s (1 - s)))

G is the effective number of speakers, 1 / sum_g share_g^2, where share_g is speaker g's part of the clips that the
score is made of: 87 speakers of whom one has 6 % of the clips carry less information than 87 equal ones (Carter,
Schnepel and Steigerwald, "Asymptotic Behavior of a t-Test Robust to Cluster Heterogeneity", 2017). Quantiles of the
draws themselves, and BCa, are too narrow for the 10 speakers of EMO-DB (`benchmarks/interval_coverage.py`). No interval
is narrower than the one for as many independent clips, and a class that only one or two speakers have widens it
(`ser.evaluation.least_errors`). The interval does not cover the variation between training runs; use several seeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from ser.evaluation import least_errors, metrics
from ser.evaluation.calibration import wilson_interval

DRAWS = 4000
LEVEL = 0.95
METHOD = "bootstrap over {unit}s, Student's t on the logit scale, never narrower than for independent clips"


@dataclass(frozen=True)
class Spread:
    """An estimate and its uncertainty.

    Attributes:
        value: The estimate, in the unit of the score.
        deviation: Its standard error; `nan` where there is only one speaker.
        freedom: Degrees of freedom of the standard error, 1 or more.
        least: Lower bound of the standard error, the one for independent clips.
        few: Standard error that classes of one or two speakers add; it is not in `deviation`.
    """

    value: float
    deviation: float
    freedom: float
    least: float = 0.0
    few: float = 0.0

    def __sub__(self, other: "Spread") -> "Spread":
        """The difference of two estimates from different speakers: Welch, Biometrika 34, 1947."""
        variances = np.array([self.deviation, other.deviation]) ** 2
        total = variances.sum()
        freedom = total**2 / (variances**2 / [self.freedom, other.freedom]).sum() if total > 0 else 1.0
        least, few = np.hypot(self.least, other.least), np.hypot(self.few, other.few)
        return Spread(self.value - other.value, float(np.sqrt(total)), float(freedom), float(least), float(few))

    def half_width(self, level: float = LEVEL) -> float:
        """Student's quantile times the standard error, or the normal quantile times its lower bound if that is more."""
        normal = norm.ppf((1 + level) / 2)
        own = max(student.ppf((1 + level) / 2, self.freedom) * self.deviation, normal * self.least)
        return float(np.hypot(own, normal * self.few))


def spread_of(value: float | np.ndarray, draws: np.ndarray, effective: float) -> Spread:
    """The spread of a score from its bootstrap draws; clusters may be few and of uneven size.

    Args:
        value: The score of the clips themselves.
        draws: The score of each draw, `[R]`; `nan` where it was undefined.
        effective: Effective number of clusters, from `effective_clusters`.
    """
    defined = draws[np.isfinite(draws)]
    if effective < 1 + 1e-9 or len(defined) < 2:
        return Spread(float(value), np.nan, 1.0)
    inflation = np.sqrt(effective / max(effective - 1, 0.5))
    return Spread(float(value), float(inflation * defined.std(ddof=1)), max(effective - 1, 1.0))


def share_spread(hits: np.ndarray, clips: np.ndarray) -> Spread:
    """The spread of a share over clusters, from the linear part of the ratio of sums: no draws are needed.

    Args:
        hits: Clips of each cluster that count, `[S]`.
        clips: Clips of each cluster, all above 0, `[S]`.
    """
    share, effective = hits.sum() / clips.sum(), effective_clusters(clips[:, None])
    if effective < 1 + 1e-9:
        return Spread(float(share), np.nan, 1.0)
    error = np.sqrt((((hits - share * clips) / clips.sum()) ** 2).sum() * effective / max(effective - 1, 0.5))
    return Spread(float(share), float(error), max(effective - 1, 1.0))


def effective_clusters(sizes: np.ndarray) -> float:
    """1 / sum_g share_g^2, in [1, S]: S for equal clusters.

    Args:
        sizes: Clips of each cluster, `[S, K]`; with several columns, as the classes under UAR, shares are taken in
            each column and averaged. Columns without a clip are left out.
    """
    sizes = sizes[:, sizes.sum(axis=0) > 0]
    return float(1 / ((sizes / sizes.sum(axis=0)).mean(axis=1) ** 2).sum()) if sizes.size else 0.0


def bounded_interval(spread: Spread, clips: float, bounds: tuple[float, float] = (0.0, 1.0)) -> list[float] | None:
    """95 % interval [low, high] of a score within bounds, on the logit scale between them.

    A score at a bound has no spread over the draws: it is moved inwards by half a clip, and its standard error on the
    logit scale is taken as 1. The interval contains Wilson's for the number of independent clips whose
    standard error is `least`; `few` is added to each side in quadrature, as Zou and Donner combine intervals
    ("Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008).

    Args:
        spread: From `spread_of`.
        clips: Clips that the score is made of.
        bounds: Least and greatest value of the score; (-1, 1), for CCC, makes the scale Fisher's z.

    Returns:
        `None` where the spread is unknown, and where no draw differs although the score is between the bounds.
    """
    if not np.isfinite([spread.value, spread.deviation]).all():
        return None
    low, high = bounds
    if max(spread.deviation, spread.least) < 1e-12 and low < spread.value < high:
        return None
    share = (spread.value - low) / (high - low)
    centre = float(np.clip(share, 0.5 / clips, 1 - 0.5 / clips))
    at_bound = share in (0.0, 1.0)
    error = 1.0 if at_bound else spread.deviation / (high - low) / (centre * (1 - centre))
    ends = expit(logit(centre) + np.array([-1, 1]) * student.ppf((1 + LEVEL) / 2, spread.freedom) * error)
    if spread.least > 0:
        expected = (share * clips + 2) / (clips + 4)
        alike = expected * (1 - expected) / (spread.least / (high - low)) ** 2 - 4
        floor = wilson_interval(share * alike, alike) if alike > 0 else [0.0, 1.0]
        ends = [min(ends[0], floor[0]), max(ends[1], floor[1])]
    few = norm.ppf((1 + LEVEL) / 2) * spread.few / (high - low)
    away = np.hypot([max(share - ends[0], 0), max(ends[1] - share, 0)], few)
    return [float(low + (high - low) * end) for end in np.clip([share - away[0], share + away[1]], 0, 1)]


def plain_interval(spread: Spread, bounds: tuple[float, float] = (-1.0, 1.0)) -> list[float] | None:
    """95 % interval [low, high] of a difference or of an error, symmetric, cut at its bounds; `None` when unknown."""
    if not np.isfinite([spread.value, spread.deviation]).all():
        return None
    return [float(np.clip(spread.value + side * spread.half_width(), *bounds)) for side in (-1, 1)]


def cluster_sums(codes: np.ndarray, cells: np.ndarray, num_cells: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Sum over each cluster's rows into cells, `[S, cells]`.

    Args:
        codes: Cluster of each row, from 0, `[N]`.
        cells: Cell of each row, from 0, `[N]`.
        num_cells: Number of cells.
        weights: What each row adds, `[N]`; 1 without.
    """
    num_clusters = int(codes.max()) + 1
    flat = np.bincount(codes * num_cells + cells, weights, minlength=num_clusters * num_cells)
    return flat.reshape(num_clusters, num_cells)


def resample(sums: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Totals over clusters drawn with replacement, `[R, ...]`.

    A draw is a vector of how often each cluster occurs, so that one matrix product gives every total. Clusters with
    equal sums are drawn together as one kind, which makes thousands of single clips cheap.

    Args:
        sums: Sums of each cluster, `[S, ...]`.
        draws: Number of draws R.
        seed: Seed of the draws; the same clusters with the same seed give the same draws.
    """
    kinds, copies = kinds_of(sums)
    counts = np.random.default_rng(seed).multinomial(len(sums), copies / copies.sum(), size=draws)
    return (counts @ kinds.reshape(len(kinds), -1)).reshape(draws, *sums.shape[1:])


def kinds_of(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different clusters, `[U, ...]`, and how many there are of each, `[U]`."""
    kinds, copies = np.unique(sums.reshape(len(sums), -1), axis=0, return_counts=True)
    return kinds.reshape(-1, *sums.shape[1:]).astype(np.float64), copies


def score_spreads(
    confusions: np.ndarray, draws: int = DRAWS, seed: int = 0, moments: np.ndarray | None = None
) -> dict[str, Any]:
    """Spreads of UAR, accuracy, macro-F1 and of every class's recall.

    Args:
        confusions: Counts of each cluster under each seed, `[S, seeds, C, C]`.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.
        moments: `least_errors.class_moments` of the clips; taken from `confusions` by default.

    Returns:
        The `Spread` of `uar`, `accuracy` and `macro_f1`, and `recall` as a list of them over classes.
    """
    moments = least_errors.moments_of_hits(confusions) if moments is None else moments
    total, resampled = confusions.sum(axis=0), resample(confusions, draws, seed)
    support = confusions.sum(axis=(1, 3))
    predicted = confusions.sum(axis=(1, 2))
    sizes = {"uar": support, "accuracy": support.sum(axis=1, keepdims=True), "macro_f1": support + predicted}
    spreads: dict[str, Any] = {
        name: spread_of(score(total).mean(), score(resampled).mean(axis=1), effective_clusters(sizes[name]))
        for name, score in (("uar", metrics.uar), ("accuracy", metrics.accuracy), ("macro_f1", metrics.macro_f1))
    }
    least, few = least_errors.mean_error(moments), least_errors.error_of_few(moments)
    spreads["uar"] = replace(spreads["uar"], least=least, few=few)
    # F1 is the harmonic mean of recall and precision, and about as uncertain as recall: both get one lower bound.
    spreads["macro_f1"] = replace(spreads["macro_f1"], least=least, few=few)
    spreads["accuracy"] = replace(spreads["accuracy"], least=least_errors.clip_error(moments))
    recall, recall_draws = metrics.recalls(total).mean(axis=0), metrics.recalls(resampled).mean(axis=1)
    spreads["recall"] = [
        replace(spread_of(recall[c], recall_draws[:, c], effective_clusters(support[:, [c]])), least=error)
        for c, error in enumerate(least_errors.class_errors(moments))
    ]
    return spreads


def score_intervals(
    confusions: np.ndarray, labels: Iterable[str], draws: int = DRAWS, seed: int = 0, moments: np.ndarray | None = None
) -> dict:
    """95 % intervals of the scores of one set of clips, ready for JSON.

    Args:
        confusions: Counts of each cluster under each seed, `[S, seeds, C, C]`.
        labels: Names of the classes.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.
        moments: As for `score_spreads`.

    Returns:
        `uar`, `accuracy`, `macro_f1` as [low, high], and `recall` by label; `None` where a class has no clip, or
        only one speaker.
    """
    spreads = score_spreads(confusions, draws, seed, moments)
    support = confusions.sum(axis=(0, 3))[0]
    clips = {"uar": equivalent_clips(support), "accuracy": support.sum(), "macro_f1": equivalent_clips(support)}
    return {
        **{name: bounded_interval(spreads[name], clips[name]) for name in clips},
        "recall": {
            label: bounded_interval(spread, max(support[c], 1))
            for c, (label, spread) in enumerate(zip(labels, spreads["recall"], strict=True))
        },
    }


def equivalent_clips(support: np.ndarray) -> float:
    """K^2 / sum_c 1/n_c: independent clips whose share has the variance of the mean of K recalls of n_c clips each."""
    present = support[support > 0]
    return float(len(present) ** 2 / (1 / present).sum())


def concordance_intervals(
    moments: np.ndarray, of_clips: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> list[list[float] | None]:
    """95 % intervals of CCC for every dimension and, as the last, for their mean.

    Args:
        moments: Sums of each cluster under each seed, `[S, seeds, K, 6]`: clips, x, y, x^2, y^2, xy of dimension k.
        of_clips: The same of each clip, `[N, seeds, K, 6]`; the jackknife over them is the least standard error.
        draws: Number of bootstrap draws.
        seed: Seed of the draws.
    """
    value = metrics.concordance_of_sums(moments.sum(axis=0)).mean(axis=0)
    resampled = metrics.concordance_of_sums(resample(moments, draws, seed)).mean(axis=1)
    without = metrics.concordance_of_sums(moments.sum(axis=0) - of_clips).mean(axis=1)
    least = np.sqrt((len(of_clips) - 1) * with_mean(without).var(axis=0))
    clips = moments[:, 0, 0, 0]
    effective = effective_clusters(clips[:, None])
    spreads = [
        replace(spread_of(one, drawn, effective), least=error)
        for one, drawn, error in zip(with_mean(value[None])[0], with_mean(resampled).T, least, strict=True)
    ]
    return [bounded_interval(spread, clips.sum(), (-1.0, 1.0)) for spread in spreads]


def with_mean(values: np.ndarray) -> np.ndarray:
    """Values `[R, K]` with their mean as the last column, `[R, K + 1]`."""
    return np.concatenate([values, values.mean(axis=1, keepdims=True)], axis=1)

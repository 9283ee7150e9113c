"""Whether a functional differs with emotion: tests over speakers, whose clips are not independent of each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ser.training.choice import holm

# With fewer speakers than this, the smallest p value that Friedman's test can give is not reliable.
FEWEST_SPEAKERS = 5
FRIEDMAN, WILCOXON, KRUSKAL = "Friedman", "Wilcoxon", "Kruskal-Wallis"


class SpeakerTest(NamedTuple):
    """The outcome of one test.

    Attributes:
        name: `FRIEDMAN`, `WILCOXON` or `KRUSKAL`; None where no test can be made.
        effect: In [0, 1]: Kendall's W, the rank-biserial correlation without its sign, or epsilon squared.
        p: p value, not corrected for the number of tests.
        speakers: Number of speakers in the test.
        share: Share of the variance of the clips that lies between emotions; NaN where it cannot be computed.
    """

    name: str | None
    effect: float
    p: float
    speakers: int
    share: float


def speaker_means(
    values: np.ndarray, speakers: Sequence[str | None], classes: np.ndarray, num_classes: int
) -> np.ndarray:
    """Mean of each speaker's clips in each class, `[S, C]`; NaN where a speaker has none.

    Args:
        values: `(N,)`; clips with NaN are left out, and so are those without a speaker.
        speakers: Who speaks in each clip, or None.
        classes: Class of each clip, `(N,)`.
        num_classes: C.
    """
    names = sorted({name for name in speakers if name is not None})
    number = {name: index for index, name in enumerate(names)}
    sums, counts = np.zeros((len(names), num_classes)), np.zeros((len(names), num_classes))
    for value, name, index in zip(values, speakers, classes, strict=True):
        if name is not None and np.isfinite(value):
            sums[number[name], index] += value
            counts[number[name], index] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def compare_over_speakers(
    values: np.ndarray, speakers: Sequence[str | None], classes: np.ndarray, num_classes: int
) -> SpeakerTest:
    """Tests whether a functional differs between classes, with a speaker's mean in a class as one observation.

    - Friedman's test over the speakers who have every class (two classes: Wilcoxon's signed-rank test), where there are
      5 or more. A speaker is compared with no other, so that high and low voices do not hide the difference. Its
      effect is Kendall's W = chi^2 / (S (C - 1)): 1 where all speakers rank the classes alike (Kendall and Babington
      Smith, Annals of Mathematical Statistics 10, 1939); for two classes |rank-biserial r| (Kerby, Comprehensive
      Psychology 3, 2014).
    - Otherwise Kruskal's test over all means, with epsilon^2 = H / (n - 1) (Tomczak and Tomczak, Trends in Sport
      Sciences 1(21), 2014). It takes means of one speaker for independent, so that its p value is on the safe side.

    Args:
        values, speakers, classes, num_classes: As for [`speaker_means`].
    """
    from scipy import stats

    classes, values = np.asarray(classes), np.asarray(values, np.float64)
    share = variance_share(values[:, None], classes)
    means = speaker_means(values, speakers, classes, num_classes)
    means = means[:, np.isfinite(means).any(axis=0)]  # classes without any value
    whole = means[np.isfinite(means).all(axis=1)]
    if means.shape[1] < 2 or len(means) < FEWEST_SPEAKERS:
        return SpeakerTest(None, float("nan"), float("nan"), len(means), share)
    if len(whole) < FEWEST_SPEAKERS:
        groups = [column[np.isfinite(column)] for column in means.T]
        if np.ptp(np.concatenate(groups)) == 0:
            return SpeakerTest(KRUSKAL, 0.0, 1.0, len(means), share)
        found = stats.kruskal(*groups)
        effect = found.statistic / (sum(map(len, groups)) - 1)
        return SpeakerTest(KRUSKAL, float(effect), float(found.pvalue), len(means), share)
    if np.ptp(whole, axis=1).max() == 0:
        return SpeakerTest(FRIEDMAN, 0.0, 1.0, len(whole), share)
    if whole.shape[1] == 2:
        found = stats.wilcoxon(*whole.T)
        differing = int((whole[:, 0] != whole[:, 1]).sum())
        effect = 1 - 2 * found.statistic / (differing * (differing + 1) / 2)
        return SpeakerTest(WILCOXON, float(effect), float(found.pvalue), len(whole), share)
    found = stats.friedmanchisquare(*whole.T)
    effect = found.statistic / (len(whole) * (whole.shape[1] - 1))
    return SpeakerTest(FRIEDMAN, float(effect), float(found.pvalue), len(whole), share)


def corrected(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's method, see [`ser.training.choice.holm`]; NaN is no test."""
    p = np.asarray(p_values, np.float64)
    p[np.isfinite(p)] = holm(p[np.isfinite(p)].tolist())
    return p.tolist()


def variance_share(values: np.ndarray, groups: Sequence[object] | np.ndarray) -> float:
    """How much of the variance of vectors lies between groups, corrected for chance: epsilon squared.

    1 - (SSW / (N - G)) / (SST / (N - 1)), sums of squares over all dimensions (Kelley, PNAS 21, 1935, for one
    dimension; Anderson, Austral Ecology 26, 2001, for the sums). Groups at random give 0 on average, whatever their
    number, so that 7 emotions and 87 speakers can be compared.

    Args:
        values: `(N, D)`; rows with NaN are left out.
        groups: Group of each row; rows with None are left out.

    Returns:
        At most 1; NaN where there are fewer than two groups, or as many as rows.
    """
    known = np.isfinite(values).all(axis=1) & np.array([group is not None for group in groups], bool)
    values = np.asarray(values, np.float64)[known]
    codes = np.unique(
        [str(group) for group, is_known in zip(groups, known, strict=True) if is_known], return_inverse=True
    )
    number, count = codes[1], len(codes[0])
    if count < 2 or len(values) <= count:
        return float("nan")
    sizes = np.bincount(number)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, number, values)
    total = ((values - values.mean(axis=0)) ** 2).sum()
    within = ((values - (sums / sizes[:, None])[number]) ** 2).sum()
    if total == 0:
        return 0.0
    return float(1 - (within / (len(values) - count)) / (total / (len(values) - 1)))

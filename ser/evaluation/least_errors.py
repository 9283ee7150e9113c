"""The lower bound of a score's standard error: the one that holds if all clips are independent.

Speakers who happen to score alike have no spread between them. Neither has a model that always predicts one class, and
a class that only one speaker has says nothing about other speakers. A bootstrap over speakers then gives far too small
an error. Clips of one speaker never carry more information than independent ones, so that the error for independent
clips is a lower bound.

A mean of m recalls is a linear function of m shares. Its error is taken with 2/m right and 2/m wrong clips added to
each: Price and Bonett, "An improved confidence interval for a linear function of binomial proportions", Computational
Statistics & Data Analysis 45, 2004; with m = 1 the interval of Agresti and Coull. For a difference of two runs on
the same clips, 1/m clips are added that only the first run has right, and 1/m that only the second has right: Bonett
and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data", 2012.

A class that few speakers have gives no reliable estimate of how much speakers differ in it. The intraclass correlation
is then taken from the other class in which speakers differ most.
"""

import numpy as np

# Clips added in all, with their sum and their sum of squares: to shares in [0, 1], and to differences in [-1, 1].
OF_SHARES = np.array([4.0, 2.0, 2.0])
OF_DIFFERENCES = np.array([2.0, 0.0, 2.0])
# Few speakers have a class if it is at most this many, and more have another class.
FEW_SPEAKERS = 2


def class_moments(cluster: np.ndarray, truth: np.ndarray, values: np.ndarray, num_classes: int) -> np.ndarray:
    """Clips of each cluster and class, with the sum and the sum of squares of what they scored, `[S, C, 3]`.

    Args:
        cluster: Cluster of each clip, from 0, `[N]`.
        truth: True class of each clip, as an index, `[N]`.
        values: Mean over seeds of whether the clip is right, in [0, 1], `[N]`; or a difference of two such means.
        num_classes: Number of classes.
    """
    shape = (int(cluster.max()) + 1, num_classes)
    cells = np.ravel_multi_index((cluster, truth), shape)
    columns = [np.bincount(cells, values**power, minlength=shape[0] * shape[1]) for power in (0, 1, 2)]
    return np.stack(columns, axis=1).reshape(*shape, 3)


def moments_of_hits(confusions: np.ndarray) -> np.ndarray:
    """`class_moments` from counts of each cluster under each seed, `[S, seeds, C, C]`.

    All seeds are assumed to be right about the same clips, which gives the largest possible error.
    """
    counts = confusions.mean(axis=1)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return np.stack([counts.sum(axis=2), hits, hits], axis=2)


def mean_error(moments: np.ndarray, added: np.ndarray = OF_SHARES) -> float:
    """Standard error of the mean over classes of a class's mean, for independent clips; 0 where there is no clip.

    Args:
        moments: From `class_moments`; classes without a clip are left out.
        added: `OF_SHARES` or `OF_DIFFERENCES`.
    """
    total = moments.sum(axis=0)
    present = total[total[:, 0] > 0]
    if not len(present):
        return 0.0
    return float(np.sqrt(_variances(present, added, len(present)).sum()) / len(present))


def clip_error(moments: np.ndarray, added: np.ndarray = OF_SHARES) -> float:
    """Standard error of the mean over all clips, for independent clips."""
    return mean_error(moments.sum(axis=1, keepdims=True), added)


def class_errors(moments: np.ndarray, added: np.ndarray = OF_SHARES) -> np.ndarray:
    """Standard error of each class's own mean, `[C]`, for independent clips."""
    return np.array([mean_error(moments[:, [c]], added) for c in range(moments.shape[1])])


def error_of_few(moments: np.ndarray, added: np.ndarray = OF_SHARES) -> float:
    """What classes of few speakers add to the standard error of the mean over classes; 0 where there are none.

    n clips of g speakers carry as much information as n / (1 + (n / g - 1) r) independent ones, where r is the
    intraclass correlation: Kish, "Survey Sampling", 1965, section 5.4.

    Args:
        moments: From `class_moments`.
        added: `OF_SHARES` or `OF_DIFFERENCES`.
    """
    few, total = held_by_few(moments), moments.sum(axis=0)
    if not few.any():
        return 0.0
    speakers, present = (moments[..., 0] > 0).sum(axis=0)[few], int((total[:, 0] > 0).sum())
    others = [intraclass_correlation(moments[:, c]) for c in np.flatnonzero((total[:, 0] > 0) & ~few)]
    clips = total[few, 0]
    effective = clips / (1 + (clips / speakers - 1) * max(others))
    variances = _variances(total[few] * (effective / clips)[:, None], added, present)
    return float(np.sqrt(variances.sum()) / present)


def held_by_few(moments: np.ndarray) -> np.ndarray:
    """Which classes have one or two speakers where others have more, bool `[C]`; `moments` from `class_moments`."""
    speakers = (moments[..., 0] > 0).sum(axis=0)
    return (speakers > 0) & (speakers <= FEW_SPEAKERS) & (speakers < speakers.max(initial=0))


def intraclass_correlation(moments: np.ndarray) -> float:
    """How alike the clips of one speaker are, in [0, 1]: 0 for independent clips, 1 where all of a speaker's are alike.

    The estimator from the analysis of variance: Donner, "A Review of Inference Procedures for the Intraclass
    Correlation Coefficient in the One-Way Random Effects Model", International Statistical Review 54, 1986, eq. 2.

    Args:
        moments: Moments of one class, `[S, 3]`.
    """
    clips, sums, squares = moments[moments[:, 0] > 0].T
    groups, total = len(clips), clips.sum()
    if groups < 2 or total <= groups:
        return 1.0
    between = (sums**2 / clips).sum() - sums.sum() ** 2 / total
    within = (squares - sums**2 / clips).sum()
    between, within = between / (groups - 1), within / (total - groups)
    size = (total - (clips**2).sum() / total) / (groups - 1)
    spread = between + (size - 1) * within
    return float(np.clip((between - within) / spread, 0, 1)) if spread > 0 else 0.0


def _variances(moments: np.ndarray, added: np.ndarray, parts: int) -> np.ndarray:
    """Variance of the mean of each row's clips, `[m]`, after `added / parts` is added to each row."""
    clips, total, squares = (moments + added / parts).T
    return (squares / clips - (total / clips) ** 2) / clips

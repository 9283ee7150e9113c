"""How often each class reaches the loss, after sampler and mixup."""

from collections.abc import Iterable, Sequence

import numpy as np


def drawn_counts(class_counts: Sequence[int] | np.ndarray, balanced: bool) -> np.ndarray:
    """Clips of each class that the sampler draws in an epoch, on average, `[C]`.

    Args:
        class_counts: Clips of each class in train.
        balanced: Whether every class that has a clip comes equally often.
    """
    counts = np.asarray(class_counts, dtype=np.float64)
    if not balanced:
        return counts
    there = counts > 0
    return there * counts.sum() / there.sum()


def served_counts(
    drawn: np.ndarray, targets: Sequence[int] | np.ndarray, batches: Iterable[Sequence[int]], alpha: float
) -> np.ndarray:
    """Sum of the targets of each class over an epoch, in clips, `[C]`: the class prior that a loss needs.

    Without mixup it equals `drawn`. Mixup gives `1 - E[l]` of every target to a partner from the same batch, drawn with
    a chance inverse to `drawn`; a class that is missing from a batch cannot be drawn there.

    Args:
        drawn: Output of [`drawn_counts`].
        targets: Class of each clip of train.
        batches: Rows of train in each batch of an epoch; only used with mixup.
        alpha: Alpha of mixup; 0: no mixup.
    """
    if alpha == 0 or len(set(drawn[drawn > 0])) == 1:  # equally frequent classes are equally frequent partners
        return drawn
    classes, partners = np.asarray(targets), np.zeros_like(drawn)
    for rows in batches:
        chances = np.bincount(classes[list(rows)], minlength=len(drawn)) / np.maximum(drawn, 1)
        partners += len(rows) * chances / chances.sum()
    share = mean_share(alpha)
    # One epoch is taken as typical of all; every epoch has the same number of clips.
    return share * drawn + (1 - share) * partners * drawn.sum() / partners.sum()


def mean_share(alpha: float) -> float:
    """`E[max(l, 1 - l)]` for `l ~ Beta(alpha, alpha)`: `1 - I_{1/2}(alpha + 1, alpha)`, I the incomplete beta ratio."""
    from scipy.special import betainc

    return float(1 - betainc(alpha + 1, alpha, 0.5))

"""How often each class reaches the loss, once sampler and mixup have had their say."""

from collections.abc import Iterable, Sequence

import numpy as np


def drawn_counts(class_counts: Sequence[int], balanced: bool) -> np.ndarray:
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
    drawn: np.ndarray, targets: Sequence[int], batches: Iterable[Sequence[int]], alpha: float
) -> np.ndarray:
    """Mass of each class in the targets of an epoch, in clips, `[C]`: what a loss may call the prior.

    Without mixup it is what the sampler draws. Mixup gives `1 - E[l]` of every target to a partner from the same batch,
    whom it draws with a chance inverse to `drawn`; a class that a batch lacks cannot be drawn in it.

    Args:
        drawn: From [`drawn_counts`].
        targets: Class of each clip of train.
        batches: Rows of train in each batch of an epoch; looked at with mixup alone.
        alpha: Of mixup; 0: none.
    """
    if alpha == 0 or len(set(drawn[drawn > 0])) == 1:  # classes that come alike are alike as partners
        return drawn
    targets, partners = np.asarray(targets), np.zeros_like(drawn)
    for rows in batches:
        chances = np.bincount(targets[list(rows)], minlength=len(drawn)) / np.maximum(drawn, 1)
        partners += len(rows) * chances / chances.sum()
    share = mean_share(alpha)
    # The draws of one epoch stand for all; its size is that of every epoch.
    return share * drawn + (1 - share) * partners * drawn.sum() / partners.sum()


def mean_share(alpha: float) -> float:
    """`E[max(l, 1 - l)]` for `l ~ Beta(alpha, alpha)`: `1 - I_{1/2}(alpha + 1, alpha)`, I the incomplete beta ratio."""
    from scipy.special import betainc

    return float(1 - betainc(alpha + 1, alpha, 0.5))

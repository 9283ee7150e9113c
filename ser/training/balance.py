"""How often each training clip is drawn, so that classes or corpora of different sizes come equally often."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser.training.served import drawn_counts

BALANCES = ("none", "class", "corpus", "class_and_corpus")


def balancing(arguments: Any) -> str:
    """What training draws equally often, by `--balance` or by the older `--balanced_sampler`.

    Raises:
        ValueError: The two disagree.
    """
    if arguments.balanced_sampler and arguments.balance not in ("none", "class"):
        raise ValueError(f"--balance: {arguments.balance}, but --balanced_sampler true means class; drop that one.")
    return "class" if arguments.balanced_sampler else arguments.balance


def draw_weights(balance: str, classes: Sequence[int] | np.ndarray, rows: Mapping[str, Any] | Any) -> np.ndarray | None:
    """Weight of each clip in a draw with replacement, `[N]`; None if every clip comes once an epoch.

    Args:
        balance: One of [`BALANCES`]. With "class_and_corpus" every class comes equally often, and within a class
            every corpus that has it.
        classes: Class of each clip, `[N]`.
        rows: The clips; the column `corpus` is read only if it is needed.
    """
    if balance == "none":
        return None
    of_class = np.unique(np.asarray(classes), return_inverse=True)[1]
    if balance == "class":
        return 1 / np.bincount(of_class)[of_class]
    of_corpus = np.unique(np.asarray(rows["corpus"]), return_inverse=True)[1]
    if balance == "corpus":
        return 1 / np.bincount(of_corpus)[of_corpus]
    counts = np.zeros((of_class.max() + 1, of_corpus.max() + 1))
    np.add.at(counts, (of_class, of_corpus), 1)
    corpora_of_class = (counts > 0).sum(axis=1)
    return 1 / (counts[of_class, of_corpus] * corpora_of_class[of_class])


def drawn_classes(
    balance: str, classes: Sequence[int] | np.ndarray, rows: Mapping[str, Any] | Any, num_classes: int
) -> np.ndarray:
    """Clips of each class that are drawn in an epoch, on average, `[C]`; arguments as for [`draw_weights`]."""
    counts = np.bincount(np.asarray(classes, dtype=np.int64), minlength=num_classes)
    weights = draw_weights(balance, classes, rows) if balance == "corpus" else None
    if weights is None:
        return drawn_counts(counts, balance != "none")
    return np.bincount(classes, weights / weights.mean(), minlength=num_classes)

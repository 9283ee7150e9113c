"""How often each training clip is drawn, so that classes or corpora of different sizes come equally often."""

from collections.abc import Sequence

import numpy as np

BALANCES = ("none", "class", "corpus", "class_and_corpus")


def draw_weights(balance: str, classes: Sequence[int], corpora: Sequence[str]) -> np.ndarray | None:
    """Weight of each clip in a draw with replacement, `[N]`; None where every clip is to come once an epoch.

    Args:
        balance: One of [`BALANCES`]. With "class_and_corpus" every class comes equally often, and within a class
            every corpus that has it.
        classes: Class of each clip, `[N]`.
        corpora: Corpus of each clip, `[N]`.
    """
    if balance == "none":
        return None
    of_class = np.unique(np.asarray(classes), return_inverse=True)[1]
    of_corpus = np.unique(np.asarray(corpora), return_inverse=True)[1]
    if balance != "class_and_corpus":
        codes = of_class if balance == "class" else of_corpus
        return 1 / np.bincount(codes)[codes]
    counts = np.zeros((of_class.max() + 1, of_corpus.max() + 1))
    np.add.at(counts, (of_class, of_corpus), 1)
    corpora_of_class = (counts > 0).sum(axis=1)
    return 1 / (counts[of_class, of_corpus] * corpora_of_class[of_class])

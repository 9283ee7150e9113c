"""Draws of training clips by class, by corpus and by both."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from ser.training import frozen_head
from ser.training.arguments import ModelArguments
from ser.training.balance import draw_weights, drawn_classes

# Corpus a has 60 clips of two classes, corpus b 12 of the first alone, corpus c 8 of both.
CLASSES = [0] * 50 + [1] * 10 + [0] * 12 + [0] * 2 + [1] * 6
CORPORA = ["a"] * 60 + ["b"] * 12 + ["c"] * 8
ROWS = {"corpus": CORPORA}


def shares(weights, names):
    """Part of the draws that each name gets."""
    total = Counter()
    for name, weight in zip(names, weights / weights.sum(), strict=True):
        total[name] += weight
    return dict(total)


def test_without_a_balance_every_clip_comes_once():
    assert draw_weights("none", CLASSES, ROWS) is None


def test_classes_come_equally_often():
    assert shares(draw_weights("class", CLASSES, ROWS), CLASSES) == pytest.approx({0: 0.5, 1: 0.5})


def test_corpora_come_equally_often_whatever_their_size():
    assert shares(draw_weights("corpus", CLASSES, ROWS), CORPORA) == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_with_both_classes_come_equally_often_and_in_a_class_the_corpora_that_have_it():
    weights = draw_weights("class_and_corpus", CLASSES, ROWS)
    cells = shares(weights, list(zip(CLASSES, CORPORA, strict=True)))
    third, half = 0.5 / 3, 0.5 / 2
    assert cells == pytest.approx({(0, "a"): third, (0, "b"): third, (0, "c"): third, (1, "a"): half, (1, "c"): half})


def test_the_classes_alone_are_weighed_as_before():
    counts = np.bincount(CLASSES)
    np.testing.assert_allclose(draw_weights("class", CLASSES, ROWS), 1 / counts[np.array(CLASSES)])


def test_losses_are_told_how_often_a_class_is_drawn():
    for balance in ("none", "class", "corpus", "class_and_corpus"):
        weights = draw_weights(balance, CLASSES, ROWS)
        weights = np.ones(len(CLASSES)) if weights is None else weights
        expected = [len(CLASSES) * share for share in shares(weights, CLASSES).values()]
        np.testing.assert_allclose(drawn_classes(balance, CLASSES, ROWS, 3), [*expected, 0])


def test_two_flags_that_disagree_are_refused():
    assert ModelArguments(balanced_sampler=True, balance="class").balance == "class"
    with pytest.raises(ValueError, match="--balance: corpus, but --balanced_sampler true means class"):
        ModelArguments(balanced_sampler=True, balance="corpus")
    with pytest.raises(ValueError, match="--balance: 'both' is not one of none, class, corpus, class_and_corpus"):
        ModelArguments(balance="both")


def test_a_head_on_frozen_statistics_is_fitted_with_the_same_weights(monkeypatch):
    seen = {}
    monkeypatch.setattr(frozen_head, "fit_head", lambda *arguments: seen.update(weights=arguments[-1]))
    model = SimpleNamespace(config=SimpleNamespace(num_labels=2))
    for balance in ("none", "class_and_corpus"):
        job = SimpleNamespace(
            model=ModelArguments(balance=balance), training=SimpleNamespace(label_smoothing_factor=0.0)
        )
        frozen_head._fit(job, model, None, np.array(CLASSES), 0.01, ROWS)
        expected = draw_weights(balance, CLASSES, ROWS)
        if expected is None:
            assert seen["weights"] is None
        else:
            np.testing.assert_allclose(seen["weights"], expected / expected.mean(), rtol=1e-6)

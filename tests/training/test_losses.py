"""Losses over classes: torch's and scikit-learn's where they have one, and the papers' properties where not."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from ser.evaluation.metrics import concordance
from ser.training.arguments import ModelArguments
from ser.training.losses import build_loss, class_weights, concordance_loss

COUNTS = [50, 5, 20]
CLASSES = torch.tensor([0, 1, 2, 0])
LOGITS = torch.tensor([[2.0, -1.0, 0.3], [0.1, 0.2, -0.4], [1.0, 1.0, 1.0], [-3.0, 2.0, 0.0]])


def one_hot(classes: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, 3).float()


def losses(smoothing: float = 0.0, **arguments) -> torch.Tensor:
    return build_loss(ModelArguments(**arguments), COUNTS, smoothing)(LOGITS, one_hot(CLASSES))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(smoothing):
    expected = torch.nn.functional.cross_entropy(LOGITS, CLASSES, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses(smoothing), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_is_torchs(smoothing):
    weights = class_weights(COUNTS)
    expected = torch.nn.functional.cross_entropy(LOGITS, CLASSES, weights, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(losses(smoothing, loss="weighted"), expected)


def test_weights_are_scikit_learns_balanced_ones():
    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(COUNTS), expected, rtol=1e-6)


def test_focal_loss_turns_from_what_is_known():
    plain, focal = losses(), losses(loss="focal", focal_gamma=2.0)
    chance = torch.softmax(LOGITS, -1)[torch.arange(4), CLASSES]
    torch.testing.assert_close(focal, plain * (1 - chance) ** 2)
    torch.testing.assert_close(losses(loss="focal", focal_gamma=0.0), plain)


def test_logit_adjustment_asks_for_a_margin_that_grows_with_rarity():
    shifted = LOGITS + torch.log(torch.tensor(COUNTS) / 75.0)
    expected = torch.nn.functional.cross_entropy(shifted, CLASSES, reduction="none")
    torch.testing.assert_close(losses(loss="logit_adjusted"), expected)
    torch.testing.assert_close(losses(loss="logit_adjusted", logit_adjustment_tau=0.0), losses())


@pytest.mark.parametrize("loss", ["weighted", "logit_adjusted"])
def test_a_class_without_clips_has_no_weight_and_is_named(loss):
    with pytest.raises(ValueError, match=rf"--loss: {loss} needs clips of every class in train; classes \[1\]"):
        build_loss(ModelArguments(loss=loss), [3, 0, 2])


def test_concordance_loss_is_one_less_the_metric():
    generator = np.random.default_rng(0)
    truth, predicted = generator.standard_normal((2, 40, 2)).astype(np.float32)
    expected = 1 - np.mean([concordance(truth[:, d], predicted[:, d]) for d in range(2)])
    assert concordance_loss(torch.from_numpy(predicted), torch.from_numpy(truth)).item() == pytest.approx(
        expected, abs=1e-5
    )

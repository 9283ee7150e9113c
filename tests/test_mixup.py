"""Mixup of waves: what is mixed, how much of it, and with whom."""

import numpy as np
import torch

from ser.training.mixup import BalancedMixup

COUNTS = np.array([90, 10])


def batch(classes: list[int]) -> tuple[dict, torch.Tensor]:
    """Waves of one value each, longer by 10 samples from one to the next."""
    waves, mask = torch.zeros(len(classes), 10 * len(classes)), torch.zeros(len(classes), 10 * len(classes)).long()
    for row in range(len(classes)):
        waves[row, : 10 * (row + 1)], mask[row, : 10 * (row + 1)] = 2.0**row, 1
    return {"input_values": waves, "attention_mask": mask}, torch.nn.functional.one_hot(
        torch.tensor(classes), 2
    ).float()


def test_a_mixture_holds_both_clips_in_the_shares_of_its_labels():
    inputs, targets = batch([0, 1, 0, 1])
    mixed, soft = BalancedMixup(0.5, COUNTS)(inputs, targets, ("key",))
    waves = inputs["input_values"]
    for row in range(4):
        found = [
            (share, partner)
            for partner in range(4)
            for share in [((mixed["input_values"][row, 0] - 2.0**partner) / (2.0**row - 2.0**partner)).item()]
            if partner != row
            and torch.allclose(mixed["input_values"][row], share * waves[row] + (1 - share) * waves[partner], atol=1e-5)
        ]
        itself = torch.allclose(mixed["input_values"][row], waves[row])
        assert itself or len(found) == 1
        if not itself:
            share, partner = found[0]
            assert 0.5 <= share <= 1
            torch.testing.assert_close(
                soft[row], share * targets[row] + (1 - share) * targets[partner], atol=1e-5, rtol=0
            )
            assert mixed["attention_mask"][row].sum() == 10 * (max(row, partner) + 1)


def test_partners_come_from_rare_classes_as_often_as_from_common_ones():
    inputs, targets = batch([0] * 9 + [1])
    mixup = BalancedMixup(0.5, COUNTS)
    rare = np.mean([(mixup(inputs, targets, (step,))[1][:9, 1] > 0).float().mean().item() for step in range(200)])
    assert 0.45 < rare < 0.55


def test_the_same_key_draws_the_same_mixture_and_another_does_not():
    inputs, targets = batch([0, 1, 0, 1])
    mixup = BalancedMixup(0.5, COUNTS)
    first, again, other = (mixup(inputs, targets, key)[0]["input_values"] for key in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

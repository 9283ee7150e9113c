"""Mixup of waves: what is mixed, how much of it, and with whom."""

import numpy as np
import torch

from ser.training.mixup import BalancedMixup
from ser.training.served import drawn_counts, mean_share, served_counts

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


def test_the_larger_share_is_on_average_what_the_formula_says():
    for alpha in (0.2, 0.5, 1.0, 3.0):
        drawn = np.random.default_rng(0).beta(alpha, alpha, 200_000)
        np.testing.assert_allclose(mean_share(alpha), np.maximum(drawn, 1 - drawn).mean(), atol=2e-3)


def test_the_classes_that_mixup_serves_are_counted_with_the_partners():
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [300, 80, 20]))
    counts = np.bincount(classes)
    batches = [list(range(start, start + 8)) for start in range(0, 400, 8)]
    served, mixup = np.zeros(3), BalancedMixup(0.5, counts)
    for repeat in range(40):
        for number, rows in enumerate(batches):
            targets = torch.nn.functional.one_hot(torch.as_tensor(classes[rows]), 3).float()
            inputs = {"input_values": torch.zeros(8, 1), "attention_mask": torch.ones(8, 1).long()}
            served += mixup(inputs, targets, (repeat, number))[1].sum(0).numpy() / 40
    np.testing.assert_allclose(served_counts(counts.astype(float), classes, batches, 0.5), served, rtol=0.02)


def test_a_balanced_sampler_serves_every_class_alike_and_mixup_then_prefers_none():
    drawn = drawn_counts([90, 10, 0, 20], balanced=True)
    np.testing.assert_allclose(drawn, [40, 40, 0, 40])
    chances = BalancedMixup(0.5, drawn).chances
    assert chances[0] == chances[1] == chances[3]

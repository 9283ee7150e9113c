"""Mixup of waves within a batch, with partners balanced by class."""

from typing import Any

import numpy as np
import torch

from ser.data.augment import hash_of


class BalancedMixup:
    """`x = l x_i + (1 - l) x_j`, the same for targets, `l ~ Beta(alpha, alpha)` (arXiv 1710.09412, eq. 1; 2302.08650).

    The chance of a partner `j` from the batch is inverse to the frequency of its class, so that rare classes are mixed
    in as often as common ones; with a balanced sampler every clip has the same chance. A mixture is as long as the
    longer of the two, and `l` is at least one half: the clip itself stays louder than its partner.

    Args:
        alpha: Above 0.
        class_counts: Clips of each class that the sampler draws in an epoch.
    """

    def __init__(self, alpha: float, class_counts: np.ndarray):
        self.alpha = alpha
        self.chances = 1 / np.maximum(np.asarray(class_counts, dtype=np.float64), 1)

    def __call__(
        self, inputs: dict[str, Any], targets: torch.Tensor, key: tuple
    ) -> tuple[dict[str, Any], torch.Tensor]:
        """Mixes a batch.

        Args:
            inputs: `input_values` `[B, T]`, zero on padding, and `attention_mask` `[B, T]`.
            targets: One-hot `[B, C]`.
            key: Seeds the draw, so that a resumed run draws the same as an unbroken one.
        """
        generator = np.random.default_rng(hash_of(key))
        chances = self.chances[targets.argmax(-1).cpu().numpy()]
        partner = torch.as_tensor(generator.choice(len(chances), len(chances), p=chances / chances.sum()))
        share = generator.beta(self.alpha, self.alpha, len(chances))
        share = torch.as_tensor(np.maximum(share, 1 - share), dtype=torch.float32).to(targets.device)[:, None]
        partner = partner.to(targets.device)
        waves, mask = inputs["input_values"], inputs["attention_mask"]
        mixed = share.to(waves.dtype) * waves + (1 - share).to(waves.dtype) * waves[partner]
        return (
            {**inputs, "input_values": mixed, "attention_mask": torch.maximum(mask, mask[partner])},
            share * targets + (1 - share) * targets[partner],
        )

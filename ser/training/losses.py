"""Losses of single clips; the caller sums them and divides by the number of clips."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

# The values of `--loss`.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(arguments: Any, class_counts: Sequence[float] | np.ndarray, label_smoothing: float = 0.0) -> Loss:
    """Builds the loss that `arguments.loss` names.

    Args:
        arguments: `ModelArguments`, of which `loss` and its parameters are read.
        class_counts: Clips of each class that reach the loss; see `served.served_counts`.
        label_smoothing: Share of each target that is spread evenly over all classes, [0, 1).

    Returns:
        A function of logits `[B, C]` and target probabilities `[B, C]` to losses `[B]`.

    Raises:
        ValueError: A class has no clip in train, so its weight or log prior would be infinite.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float32)
    if arguments.loss in ("weighted", "logit_adjusted") and bool((counts == 0).any()):
        empty = [index for index, count in enumerate(class_counts) if count == 0]
        raise ValueError(f"--loss: {arguments.loss} needs clips of every class in train; classes {empty} have none.")
    weights = class_weights(class_counts) if arguments.loss == "weighted" else torch.ones_like(counts)
    shift = torch.zeros_like(counts)
    if arguments.loss == "logit_adjusted":
        shift = arguments.logit_adjustment_tau * torch.log(counts / counts.sum())
    gamma = arguments.focal_gamma if arguments.loss == "focal" else 0.0

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        targets = (1 - label_smoothing) * targets + label_smoothing / targets.shape[-1]
        return soft_cross_entropy(logits, targets, weights.to(logits.device), shift.to(logits.device), gamma)

    return loss


def class_weights(class_counts: Sequence[float] | np.ndarray) -> torch.Tensor:
    """Weights `n / (C n_c)`, `[C]`, scikit-learn's `balanced`.

    Their mean over the clips is 1, so a sum of weighted losses can be divided by the number of clips: the gradient of
    a batch is then the same in one piece, in accumulated parts and on several processes.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, shift: torch.Tensor, gamma: float = 0.0
) -> torch.Tensor:
    """`-sum_c w_c q_c (1 - p_c)^gamma log p_c` with `p = softmax(logits + shift)`, for each clip: `[B]`.

    With `gamma` the focal loss (arXiv 1708.02002, eq. 4); with `shift = tau log prior` the logit-adjusted loss
    (arXiv 2007.07314, eq. 10), whose unshifted logits assume equally frequent classes.

    Args:
        logits: `[B, C]`.
        targets: Probabilities `q`, `[B, C]`.
        weights: `[C]`.
        shift: `[C]`.
    """
    log_probabilities = (logits.float() + shift).log_softmax(-1)
    focus = (1 - log_probabilities.exp()) ** gamma if gamma else 1.0
    return -(weights * targets * focus * log_probabilities).sum(-1)


def concordance_loss(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """`1 - CCC`, the mean over dimensions, of a batch `[B, D]`; Lin's concordance correlation (Biometrics 45, 1989).

    The concordance is a property of the batch: unlike the other losses it depends on how clips are batched.
    """
    predicted, truth = predicted.float(), truth.float()
    mean_p, mean_t = predicted.mean(0), truth.mean(0)
    variance_p, variance_t = predicted.var(0, unbiased=False), truth.var(0, unbiased=False)
    covariance = ((predicted - mean_p) * (truth - mean_t)).mean(0)
    ccc = 2 * covariance / (variance_p + variance_t + (mean_p - mean_t).square() + 1e-8)
    return 1 - ccc.mean()

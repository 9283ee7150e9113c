"""The temperature that calibrates a model, folded into its last layer."""

from typing import Any

import numpy as np
import torch

from ser.evaluation.calibration import fit_temperature


def calibrate(model: Any, logits: np.ndarray, truth: np.ndarray) -> float:
    """Fits the temperature to dev's logits `[N, C]` and classes `[N]`, folds it into `model`, and returns it."""
    temperature = fit_temperature(logits, truth)
    fold_temperature(model, temperature)
    return temperature


@torch.no_grad()
def fold_temperature(model: Any, temperature: float) -> None:
    """Divides every logit by `temperature` from now on, in the last linear layer, so that nobody else need know.

    Temperature scaling (arXiv 1706.04599, eq. 9). The order of the classes does not change. What it was stays in
    the model's configuration.

    Raises:
        ValueError: The temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not above 0.")
    model.classifier.weight /= temperature
    model.classifier.bias /= temperature
    # `temperature` itself is a word of text generation, which transformers refuses in a model's configuration.
    before = getattr(model.config, "calibration_temperature", 1.0)
    model.config.calibration_temperature = before * temperature

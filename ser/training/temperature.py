"""Calibrates a model: puts a temperature, and class biases if asked, into its last layer."""

from typing import Any

import numpy as np
import torch

from ser.evaluation.calibration import fit_prior
from ser.training.arguments import ModelArguments
from ser.training.balance import balancing


def calibrate(
    model: Any, logits: np.ndarray, truth: np.ndarray, labels: list[str], arguments: ModelArguments
) -> tuple[np.ndarray, dict[str, Any]]:
    """Fits temperature and class biases to dev and folds them into `model`.

    The temperature changes no decision. The biases do: they fit the scores to the class frequencies of the corpus,
    which lowers UAR. They are kept in the configuration, and put into the scores only with `calibrate_prior`.

    Args:
        model: The model, or an object with its `classifier` and `config`.
        logits: Logits of dev, `[N, C]`.
        truth: Class indices of dev, `[N]`.
        labels: Names of the classes.
        arguments: `calibrate_prior`, and the weighting of classes in training.

    Returns:
        The logits of the calibrated model, and the facts for `results.json`: `temperature`, `bias` (by
        label), `calibrate_prior` and `reading`.
    """
    temperature, bias = fit_prior(logits, truth)
    fold_calibration(model, temperature, bias, arguments.calibrate_prior)
    facts = {"temperature": temperature, "bias": dict(zip(labels, bias.tolist(), strict=True))}
    facts |= {"calibrate_prior": arguments.calibrate_prior, "reading": reading_of(arguments)}
    return logits / temperature + bias * arguments.calibrate_prior, facts


def uncalibrated(probabilities: np.ndarray, facts: dict[str, Any], labels: list[str]) -> np.ndarray:
    """The logits `[N, C]` of a model before calibration, up to a constant for each clip.

    Args:
        probabilities: Probabilities of the calibrated model, `[N, C]`.
        facts: The section `calibration` of its `results.json`.
        labels: Names of the classes.
    """
    bias = np.array([(facts.get("bias") or {}).get(label, 0.0) for label in labels])
    logs = np.log(np.clip(probabilities, 1e-300, None)) - bias * bool(facts.get("calibrate_prior"))
    return logs * (facts.get("temperature") or 1.0)


def reading_of(arguments: ModelArguments) -> str:
    """The class frequencies that scores assume: "balanced" if training weighed all classes equally, else "corpus"."""
    drawn = (
        balancing(arguments) in ("class", "class_and_corpus") or arguments.mixup_alpha > 0
    )  # mixup balances its partners
    balances = arguments.loss in ("weighted", "logit_adjusted") or drawn
    return "balanced" if balances and not (arguments.calibrate and arguments.calibrate_prior) else "corpus"


@torch.no_grad()
def fold_calibration(model: Any, temperature: float, bias: np.ndarray, calibrate_prior: bool = False) -> None:
    """Divides the weights of the last linear layer by `temperature`, so that every user gets calibrated logits.

    Temperature scaling (arXiv 1706.04599, eq. 9). The order of the classes does not change unless the biases
    are added. Both values are kept in the configuration of the model.

    Args:
        bias: Bias of each class, `[C]`, added after the division.
        calibrate_prior: Whether to add it.

    Raises:
        ValueError: The temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not above 0.")
    model.classifier.weight /= temperature
    model.classifier.bias /= temperature
    if calibrate_prior:
        model.classifier.bias += torch.as_tensor(bias).to(model.classifier.bias)
    # Not named `temperature`: transformers reserves that key for text generation.
    before = getattr(model.config, "calibration_temperature", 1.0)
    model.config.calibration_temperature = before * temperature
    model.config.calibration_bias, model.config.calibrate_prior = np.asarray(bias).tolist(), calibrate_prior

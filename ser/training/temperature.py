"""The temperature that calibrates a model and the class biases that fit it to the corpus, in its last layer."""

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

    The temperature changes no decision. The biases do: they move it from the balanced error, which UAR is one minus of,
    to the frequencies of the corpus. They are kept in the configuration, and in the scores only where
    `calibrate_prior` says so.

    Args:
        model: The model, or what holds its last layer and its configuration.
        logits: Of dev, `[N, C]`.
        truth: Class numbers of dev, `[N]`.
        labels: Names of the classes.
        arguments: `calibrate_prior`, and how classes were weighed in training.

    Returns:
        The logits as the model gives them from now on, and the facts for `results.json`: `temperature`, `bias` (by
        label), `calibrate_prior` and `reading`.
    """
    temperature, bias = fit_prior(logits, truth)
    fold_calibration(model, temperature, bias, arguments.calibrate_prior)
    facts = {"temperature": temperature, "bias": dict(zip(labels, bias.tolist(), strict=True))}
    facts |= {"calibrate_prior": arguments.calibrate_prior, "reading": reading_of(arguments)}
    return logits / temperature + bias * arguments.calibrate_prior, facts


def uncalibrated(probabilities: np.ndarray, facts: dict[str, Any], labels: list[str]) -> np.ndarray:
    """The logits `[N, C]`, up to a constant for each clip, that a model gave before it was calibrated.

    Args:
        probabilities: What it gives now, `[N, C]`.
        facts: The section `calibration` of its `results.json`.
        labels: Names of the classes.
    """
    bias = np.array([(facts.get("bias") or {}).get(label, 0.0) for label in labels])
    logs = np.log(np.clip(probabilities, 1e-300, None)) - bias * bool(facts.get("calibrate_prior"))
    return logs * (facts.get("temperature") or 1.0)


def reading_of(arguments: ModelArguments) -> str:
    """Whose class frequencies the scores suppose: "balanced" where training weighed all classes alike, or "corpus"."""
    drawn = balancing(arguments) in ("class", "class_and_corpus") or arguments.mixup_alpha > 0  # its partners are
    balances = arguments.loss in ("weighted", "logit_adjusted") or drawn
    return "balanced" if balances and not (arguments.calibrate and arguments.calibrate_prior) else "corpus"


@torch.no_grad()
def fold_calibration(model: Any, temperature: float, bias: np.ndarray, calibrate_prior: bool = False) -> None:
    """Divides every logit by `temperature` from now on, in the last linear layer, so that nobody else need know.

    Temperature scaling (arXiv 1706.04599, eq. 9). The order of the classes does not change, unless the biases are
    added too. What they were stays in the model's configuration.

    Args:
        bias: Of each class, `[C]`, added after the division.
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
    # `temperature` itself is a word of text generation, which transformers refuses in a model's configuration.
    before = getattr(model.config, "calibration_temperature", 1.0)
    model.config.calibration_temperature = before * temperature
    model.config.calibration_bias, model.config.calibrate_prior = np.asarray(bias).tolist(), calibrate_prior

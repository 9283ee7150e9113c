"""Learning rates that differ between the layers of a backbone and its head."""

import re
from collections.abc import Collection
from typing import Any

from ser.training.model_arguments import ModelArguments
from ser_model import has_norm_behind_layers


def parameter_groups(
    model: Any, arguments: ModelArguments, learning_rate: float, weight_decay: float, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """The trainable weights of `model` as an optimizer takes them, one group for each rate and decay.

    Args:
        arguments: Its `layer_lr_decay` and `head_learning_rate` decide.
        learning_rate: Of the highest layer.
        weight_decay: Of the weights named in `decayed`; 0 for the others.
        decayed: Names of weights.
    """
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = learning_rate_of(name, model, arguments, learning_rate)
            groups.setdefault((rate, weight_decay if name in decayed else 0.0), []).append(parameter)
    return [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]


def learning_rate_of(name: str, model: Any, arguments: ModelArguments, rate: float) -> float:
    """Layer `l` of `L` gets `rate * decay^(L - l)`; modules before the layers count as layer 0 (ULMFiT, 4.2)."""
    if "backbone." not in name and not name.startswith(f"{model.base_model_prefix}."):
        return rate if arguments.head_learning_rate is None else arguments.head_learning_rate
    config = getattr(model.config, "backbone_config", model.config)
    layers = config.num_hidden_layers
    found = re.search(r"(?:encoder|backbone)\.layers\.(\d+)\.", name)  # Whisper's backbone is the encoder itself
    depth = int(found[1]) if found else -1
    if has_norm_behind_layers(config) and re.search(r"(?:encoder|backbone)\.layer_norm\.", name):
        depth = layers - 1
    return rate * arguments.layer_lr_decay ** (layers - 1 - depth)

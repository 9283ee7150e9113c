"""Decides which weights are trained."""

from typing import Any

from ser.training.arguments import ModelArguments
from ser.training.lora import add_lora


def freeze(model: Any, arguments: ModelArguments) -> int:
    """Freezes weights and adds LoRA as `arguments` say.

    Returns:
        Number of trainable weights.

    Raises:
        ValueError: Nothing is left, the backbone has fewer layers than `freeze_layers`, or LoRA does not fit it.
    """
    if freezes_feature_encoder(arguments):
        model.freeze_feature_encoder()
    if arguments.freeze_layers:
        model.freeze_layers(arguments.freeze_layers)
    if arguments.lora_rank:
        add_lora(model, arguments)
    if arguments.freeze_base_model or arguments.train_mode == "probe":
        model.freeze_base_model()
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trainable == 0:
        raise ValueError("--freeze_base_model: no weight is left to train.")
    return trainable


def freezes_feature_encoder(arguments: ModelArguments) -> bool:
    """Whether the convolutions are frozen: the flag decides; by default true for a pretrained backbone."""
    if arguments.freeze_feature_encoder is not None:
        return arguments.freeze_feature_encoder
    return arguments.model_name_or_path is not None

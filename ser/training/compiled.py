"""Compiled layers, for clips of any length."""

from typing import Any

from ser_model import encoder_of


def compile_layers(model: Any) -> None:
    """Compiles each transformer layer of a model's backbone, in place, once for clips of any length.

    A compiled whole model fails in torch 2.13: the lengths behind the convolutions, which divide those of the clips,
    become ranges that inductor calls invalid. The convolutions stay as they are; frozen, they are a third of a step.
    The weights keep their names, and a saved model knows nothing of it.
    """
    backbone = getattr(model, "backbone", None) or model.base_model
    for layer in encoder_of(backbone).layers:
        layer.compile(dynamic=True)

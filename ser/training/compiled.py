"""Compiled layers, for clips of any length."""

from typing import Any

from ser_model import encoder_of


def compile_layers(model: Any) -> None:
    """Compiles each transformer layer of a model's backbone, in place, once for clips of any length.

    A whole model, compiled, fails in torch 2.13 for lengths that vary (`InductorError: Invalid ranges`), so the
    convolutions stay as they are. The weights keep their names, and a saved model knows nothing of it.
    """
    backbone = getattr(model, "backbone", None) or model.base_model
    for layer in encoder_of(backbone).layers:
        layer.compile(dynamic=True)

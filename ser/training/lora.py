"""LoRA on the attention projections, by peft; merged before anything is saved."""

from typing import Any

from torch import nn

from ser.training.arguments import ModelArguments

# Names of the attention projections in the supported backbones.
PROJECTIONS = (("q_proj", "k_proj", "v_proj", "out_proj"), ("linear_q", "linear_k", "linear_v", "linear_out"))


def add_lora(model: Any, arguments: ModelArguments) -> int:
    """Freezes the backbone and adds low-rank updates to its attention (arXiv 2106.09685, eq. 3); the head is trained.

    Returns:
        Number of projections with an update.

    Raises:
        ImportError: peft is not installed.
        ValueError: The backbone has no such projections, or bypasses them, so that LoRA would have no effect.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ImportError("--lora_rank needs peft: pip install 'ser[lora]'.") from None
    backbone = model.base_model
    if arguments.head == "stock" and model.config.model_type == "wavlm":
        raise ValueError(
            "--lora_rank: with --head stock, WavLM of transformers bypasses the projection modules, so LoRA would "
            "never be trained. Use --head tanh."
        )
    found = {name.rsplit(".", 1)[-1] for name, module in backbone.named_modules() if isinstance(module, nn.Linear)}
    targets = next((names for names in PROJECTIONS if set(names) <= found), None)
    if targets is None:
        raise ValueError(f"--lora_rank: {type(backbone).__name__} has none of the projections {PROJECTIONS}.")
    backbone.requires_grad_(False)
    config = LoraConfig(r=arguments.lora_rank, lora_alpha=arguments.lora_alpha, target_modules=list(targets))
    inject_adapter_in_model(config, backbone)
    return len(_adapted(backbone))


def merge_lora(model: Any) -> None:
    """Adds every update to its weight and removes the layers of peft."""
    for parent, name, layer in _adapted(model):
        layer.merge()
        setattr(parent, name, layer.get_base_layer())


def _adapted(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, LoraLayer)
    ]

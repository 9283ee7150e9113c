"""LoRA on the attention projections, by peft; merged before anything is saved."""

from typing import Any

from torch import nn

from ser.training.arguments import ModelArguments

# What the supported backbones call their attention's projections.
PROJECTIONS = (("q_proj", "k_proj", "v_proj", "out_proj"), ("linear_q", "linear_k", "linear_v", "linear_out"))


def add_lora(model: Any, arguments: ModelArguments) -> int:
    """Freezes the backbone and adds low-rank updates to its attention (arXiv 2106.09685, eq. 3); the head is trained.

    Returns:
        Number of projections that have an update now.

    Raises:
        ImportError: peft is not installed.
        ValueError: The backbone has no such projections, or calls them in a way that passes LoRA by.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ImportError("--lora_rank needs peft: pip install 'ser[lora]'.") from None
    backbone = model.base_model
    if arguments.head == "stock" and model.config.model_type == "wavlm":
        raise ValueError(
            "--lora_rank: transformers' WavLM hands the weights of its projections to a function, so that their LoRA "
            "would never be trained. Use --head tanh, which calls them."
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
    """Adds every update to the weight it belongs to and takes peft's layers out again."""
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

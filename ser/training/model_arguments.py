"""Flags of the backbone, the head and their training."""

from dataclasses import dataclass, field, fields
from typing import Any

from ser.files import parse_json
from ser.training.balance import BALANCES, balancing

# Written out here too, because flags are checked before torch is imported; a test compares them.
HEADS = ("tanh", "linear")
POOLINGS = ("mean", "mean_std", "attentive_stats")
LOSSES = ("cross_entropy", "weighted", "focal", "logit_adjusted")


def argument(default: Any, text: str, **metadata: Any) -> Any:
    """A field of a dataclass with the help text of its flag."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class ModelArguments:
    """Flags of the backbone, the head and their training.

    Raises:
        ValueError: A value is outside its range, or two exclude each other. The message names the flag.
    """

    model_name_or_path: str | None = argument(
        None,
        "Backbone, or a model of this project to go on from: Hub name or folder. With --do_train false: what to score.",
    )
    backbone_config: str | None = argument(
        None, "JSON object: configuration of a backbone from scratch, or the changed keys of a pretrained one."
    )
    head: str = argument(
        "tanh",
        "tanh: two linear layers with tanh; linear: one layer; stock: the head of transformers.",
        choices=(*HEADS, "stock"),
    )
    pooling: str = argument("mean", "How the frames of a clip become one vector.", choices=POOLINGS)
    layer_mix: str = argument(
        "last",
        "Hidden states to pool: last, weighted, all, the number of a layer, or best (cross-validation in train).",
    )
    classifier_proj_size: int = argument(256, "Width of the layer between pooling and classes.")
    final_dropout: float = argument(0.1, "Dropout before each linear layer of the head.")
    whisper_full_window: bool = argument(
        True, "Pad each clip to the 30 s of Whisper's pretraining; false: no padding, faster."
    )
    attn_implementation: str | None = argument(
        None, "eager, sdpa or flash_attention_2; transformers chooses by default."
    )
    freeze_feature_encoder: bool | None = argument(
        None, "Do not train the convolutions; default: true for a pretrained backbone."
    )
    freeze_base_model: bool = argument(False, "Do not train the backbone, only the head.")
    freeze_layers: int = argument(0, "Do not train the convolutions and this many layers from the bottom.")
    layer_lr_decay: float = argument(1.0, "Learning rate of each layer, divided by that of the layer above; in (0, 1].")
    head_learning_rate: float | None = argument(None, "Learning rate of the head; --learning_rate by default.")
    lora_rank: int = argument(
        0, "Rank of LoRA on the attention projections; 0: no LoRA. Needs pip install 'ser[lora]'."
    )
    lora_alpha: float = argument(16.0, "Scale of LoRA: the update is multiplied by alpha / rank.")
    loss: str = argument("cross_entropy", "Loss of the classes.", choices=LOSSES)
    focal_gamma: float = argument(2.0, "Gamma of the focal loss.")
    logit_adjustment_tau: float = argument(1.0, "Weight of the log prior in the logit-adjusted loss.")
    mixup_alpha: float = argument(
        0.0, "Mixup of waves with a share from Beta(alpha, alpha), partners balanced by class; 0: no mixup."
    )
    balance: str = argument("none", "Draw clips so that classes, corpora or both come equally often.", choices=BALANCES)
    balanced_sampler: bool = argument(False, "The same as --balance class.")
    train_mode: str = argument(
        "finetune",
        "finetune: train the backbone; probe: run the frozen backbone once and fit the head.",
        choices=("finetune", "probe"),
    )
    probe_augmented_copies: int = argument(
        0, "Number of augmented copies of each training clip that the probe also uses."
    )
    head_strength: float | None = argument(
        None,
        "L2 penalty of a head that is fitted on frozen statistics; default: chosen by cross-validation in train.",
    )
    start_from_probe: bool | None = argument(
        None,
        "Start fine-tuning from a head fitted on frozen statistics, and keep that start if dev scores no better; "
        "default: true for a pretrained backbone.",
    )
    shuffle_train_labels: bool = argument(
        False, "Control: shuffle the training labels; a score above chance means a leak."
    )
    calibrate: bool = argument(True, "Fit a temperature on dev and put it into the weights of the last layer.")
    calibrate_prior: bool = argument(
        False,
        "Also put class biases fitted on dev into the weights: scores then follow the class frequencies of the corpus, "
        "and UAR falls.",
    )

    def __post_init__(self) -> None:
        choices = {f.name: f.metadata["choices"] for f in fields(self) if "choices" in f.metadata}
        for flag in ("head", "pooling", "loss", "train_mode", "balance"):
            if getattr(self, flag) not in choices[flag]:
                raise ValueError(f"--{flag}: {getattr(self, flag)!r} is not one of {', '.join(choices[flag])}.")
        ranges = {"final_dropout": (0, 1), "layer_lr_decay": (1e-6, 1)}
        ranges |= {"mixup_alpha": (0, 100), "focal_gamma": (0, 100)}
        for flag, (low, high) in ranges.items():
            if not low <= getattr(self, flag) <= high:
                raise ValueError(f"--{flag}: {getattr(self, flag)} is outside {low} to {high}.")
        for flag in ("freeze_layers", "lora_rank", "probe_augmented_copies"):
            if getattr(self, flag) < 0:
                raise ValueError(f"--{flag}: {getattr(self, flag)} is negative; expected 0 or more.")
        if self.head_strength is not None and not 1e-8 <= self.head_strength <= 100:
            raise ValueError(f"--head_strength: {self.head_strength} is outside 1e-8 to 100.")
        if self.lora_rank and (self.freeze_base_model or self.freeze_layers):
            raise ValueError("--lora_rank: LoRA freezes the backbone; remove --freeze_base_model and --freeze_layers.")
        if self.head == "stock" and (self.pooling != "mean" or self.layer_mix not in ("last", "weighted")):
            raise ValueError("--head stock: transformers' own head takes --pooling mean, --layer_mix last or weighted.")
        if self.head == "stock" and self.freeze_layers:
            raise ValueError("--freeze_layers: --head stock does not support it; use --head tanh.")
        if self.calibrate_prior and not self.calibrate:
            raise ValueError("--calibrate_prior: true has no effect with --calibrate false; remove one of the two.")
        balancing(self)
        self._check_probe()
        self._check_start()
        self.parsed_backbone_config()

    def _check_probe(self) -> None:
        if self.train_mode != "probe":
            return
        if self.pooling == "attentive_stats":
            raise ValueError(
                "--pooling: attentive_stats weighs single frames, but --train_mode probe keeps only each layer's mean "
                "and deviation over frames. Use mean or mean_std, or --train_mode finetune --freeze_base_model true."
            )
        if self.head == "stock":
            raise ValueError("--head: stock cannot be fitted as a probe; with --train_mode probe use tanh or linear.")
        for flag, off in (("lora_rank", 0), ("mixup_alpha", 0.0), ("freeze_layers", 0)):
            if getattr(self, flag) != off:
                raise ValueError(f"--{flag}: {getattr(self, flag)} has no effect on a frozen backbone; leave it {off}.")

    def _check_start(self) -> None:
        if self.layer_mix == "best" and self.train_mode == "finetune" and self.start_from_probe is False:
            raise ValueError("--layer_mix: best is chosen on frozen statistics; it needs --start_from_probe true.")
        if not self.start_from_probe:
            return
        if self.head == "stock":
            raise ValueError("--start_from_probe: --head stock cannot be fitted on statistics; use --head tanh.")
        if self.pooling == "attentive_stats" and self.layer_mix == "weighted":
            raise ValueError(
                "--start_from_probe: attentive_stats over weighted layers mixes single frames, which statistics do not "
                "hold. Use --layer_mix best, last or a number, or --start_from_probe false."
            )

    def parsed_backbone_config(self) -> dict[str, Any]:
        """The backbone's configuration as a dict; empty when none is given."""
        if self.backbone_config is None:
            return {}
        config = parse_json(self.backbone_config, "--backbone_config")
        if not isinstance(config, dict):
            raise ValueError(f"--backbone_config: {config!r} is not an object.")
        return config

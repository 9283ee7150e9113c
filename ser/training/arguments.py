"""All flags of a run. A flat YAML becomes flags; these and the command line are parsed together, once."""

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import HfArgumentParser, TrainingArguments

from ser.data.data_arguments import DataArguments, closest, read_config
from ser.training.balance import BALANCES, balancing
from ser_model import HEADS, POOLINGS

LOSSES = ("cross_entropy", "weighted", "focal", "logit_adjusted")
# Flags that a regression does not use.
FOR_CLASSES = ("loss", "focal_gamma", "logit_adjustment_tau", "mixup_alpha", "balance", "balanced_sampler")
# Set by TrainingArguments itself, or secret: not written to run_config.yaml.
DERIVED = ("accelerator_config", "dataloader_pin_memory", "hub_token")
NOTHING = (None, False, "", "none", "no")


def _argument(default, text: str, **metadata):
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class ModelArguments:
    """Flags of the backbone, the head and their training.

    Raises:
        ValueError: A value is outside its range, or two exclude each other. The message names the flag.
    """

    model_name_or_path: str | None = _argument(
        None,
        "Backbone, or a model of this project to go on from: Hub name or folder. With --do_train false: what to score.",
    )
    backbone_config: str | None = _argument(
        None, "JSON object: configuration of a backbone from scratch, or the changed keys of a pretrained one."
    )
    head: str = _argument(
        "tanh",
        "tanh: two linear layers with tanh; linear: one layer; stock: the head of transformers.",
        choices=(*HEADS, "stock"),
    )
    pooling: str = _argument("mean", "How the frames of a clip become one vector.", choices=POOLINGS)
    layer_mix: str = _argument(
        "last",
        "Hidden states to pool: last, weighted, all, the number of a layer, or best (cross-validation in train).",
    )
    classifier_proj_size: int = _argument(256, "Width of the layer between pooling and classes.")
    final_dropout: float = _argument(0.1, "Dropout before each linear layer of the head.")
    whisper_full_window: bool = _argument(
        True, "Pad each clip to the 30 s of Whisper's pretraining; false: no padding, faster."
    )
    attn_implementation: str | None = _argument(
        None, "eager, sdpa or flash_attention_2; transformers chooses by default."
    )
    freeze_feature_encoder: bool | None = _argument(
        None, "Do not train the convolutions; default: true for a pretrained backbone."
    )
    freeze_base_model: bool = _argument(False, "Do not train the backbone, only the head.")
    freeze_layers: int = _argument(0, "Do not train the convolutions and this many layers from the bottom.")
    layer_lr_decay: float = _argument(
        1.0, "Learning rate of each layer, divided by that of the layer above; in (0, 1]."
    )
    head_learning_rate: float | None = _argument(None, "Learning rate of the head; --learning_rate by default.")
    lora_rank: int = _argument(
        0, "Rank of LoRA on the attention projections; 0: no LoRA. Needs pip install 'ser[lora]'."
    )
    lora_alpha: float = _argument(16.0, "Scale of LoRA: the update is multiplied by alpha / rank.")
    loss: str = _argument("cross_entropy", "Loss of the classes.", choices=LOSSES)
    focal_gamma: float = _argument(2.0, "Gamma of the focal loss.")
    logit_adjustment_tau: float = _argument(1.0, "Weight of the log prior in the logit-adjusted loss.")
    mixup_alpha: float = _argument(
        0.0, "Mixup of waves with a share from Beta(alpha, alpha), partners balanced by class; 0: no mixup."
    )
    balance: str = _argument(
        "none", "Draw clips so that classes, corpora or both come equally often.", choices=BALANCES
    )
    balanced_sampler: bool = _argument(False, "The same as --balance class.")
    train_mode: str = _argument(
        "finetune",
        "finetune: train the backbone; probe: run the frozen backbone once and fit the head.",
        choices=("finetune", "probe"),
    )
    probe_augmented_copies: int = _argument(
        0, "Number of augmented copies of each training clip that the probe also uses."
    )
    head_strength: float | None = _argument(
        None,
        "L2 penalty of a head that is fitted on frozen statistics; default: chosen by cross-validation in train.",
    )
    start_from_probe: bool | None = _argument(
        None,
        "Start fine-tuning from a head fitted on frozen statistics, and keep that start if dev scores no better; "
        "default: true for a pretrained backbone.",
    )
    shuffle_train_labels: bool = _argument(
        False, "Control: shuffle the training labels; a score above chance means a leak."
    )
    calibrate: bool = _argument(True, "Fit a temperature on dev and put it into the weights of the last layer.")
    calibrate_prior: bool = _argument(
        False,
        "Also put class biases fitted on dev into the weights: scores then follow the class frequencies of the corpus, "
        "and UAR falls.",
    )

    def __post_init__(self):
        for flag in ("head", "pooling", "loss", "train_mode", "balance"):
            allowed = {f.name: f.metadata.get("choices") for f in fields(self)}[flag]
            if getattr(self, flag) not in allowed:
                raise ValueError(f"--{flag}: {getattr(self, flag)!r} is not one of {', '.join(allowed)}.")
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
        try:
            config = json.loads(self.backbone_config)
        except json.JSONDecodeError as error:
            raise ValueError(f"--backbone_config: {self.backbone_config!r} is not JSON ({error}).") from None
        if not isinstance(config, dict):
            raise ValueError(f"--backbone_config: {config!r} is not an object.")
        return config


@dataclass
class SERTrainingArguments(TrainingArguments):
    """The arguments of transformers, with other defaults and additional flags."""

    output_dir: str | None = _argument(None, "Folder of the run.")
    do_train: bool = _argument(True, "Train, calibrate and save a model.")
    do_eval: bool = _argument(True, "Score the dev set.")
    do_predict: bool = _argument(True, "Score the test set, once, after training.")
    eval_strategy: str = _argument("epoch", "When dev is scored.")
    save_strategy: str = _argument("epoch", "When a checkpoint is written.")
    save_total_limit: int | None = _argument(1, "Number of checkpoints to keep, besides the best one.")
    load_best_model_at_end: bool = _argument(True, "Use the checkpoint with the best dev score.")
    metric_for_best_model: str | None = _argument(
        "uar", "Metric on dev that selects the best checkpoint: uar, accuracy, macro_f1, loss; ccc for a regression."
    )
    greater_is_better: bool | None = _argument(True, "Whether more of that metric is better.")
    remove_unused_columns: bool = _argument(False, "Must stay false: the collator decodes the clips.")
    report_to: str = _argument("none", "tensorboard, wandb, ... or none.")
    logging_strategy: str = _argument("epoch", "When the training loss is logged.")
    early_stopping_patience: int = _argument(
        0, "Stop after this many evaluations without a better dev score; 0: never."
    )
    batch_seconds: float = _argument(
        0.0, "Seconds of audio in a batch, padding included; 0: --per_device_train_batch_size clips."
    )
    final_fit: bool = _argument(
        False,
        "After --fold all: train one more model on all clips with the choices of the folds, in --output_dir.",
    )
    seeds: str | None = _argument(None, "Seeds of several runs, such as 13,21,42; default: --seed.")
    overwrite: bool = _argument(False, "Replace a run that --output_dir already holds.")
    debug_errors: bool = _argument(False, "Show the traceback of an error.")

    def __post_init__(self):
        if not (self.do_train or self.do_eval or self.do_predict):
            raise ValueError("--do_train, --do_eval and --do_predict are all false: there is nothing to do.")
        if self.batch_seconds < 0:
            raise ValueError(f"--batch_seconds: {self.batch_seconds} is negative.")
        if self.seeds is not None and not all(seed.strip().isdigit() for seed in self.seeds.split(",")):
            raise ValueError(f"--seeds: {self.seeds!r} is not a list of numbers such as 13,21,42.")
        if str(self.eval_strategy) == "no" or not self.do_eval:
            self.eval_strategy, self.load_best_model_at_end = "no", False
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False  # pinned memory only helps a GPU
        super().__post_init__()

    def seed_list(self) -> list[int]:
        """Seeds of the runs to make."""
        return [self.seed] if self.seeds is None else [int(seed) for seed in self.seeds.split(",")]


class _Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        raise ValueError(message)


ARGUMENTS = (ModelArguments, DataArguments, SERTrainingArguments)


def parse_arguments(argv: Sequence[str]) -> tuple[ModelArguments, DataArguments, SERTrainingArguments]:
    """Parses `[CONFIG.yaml ...] [--flag value ...]`; what comes later wins.

    Raises:
        ValueError: A key is unknown, or a value is not what its key takes. The message names the file and the key.
        FileNotFoundError: There is no such file.
    """
    files, flags = split_files_from_flags(argv)
    parser = _Parser(ARGUMENTS, allow_abbrev=False, description=__doc__)
    known = {f.name for kind in ARGUMENTS for f in fields(kind)}
    origin: dict[str, str] = {}
    tokens: list[str] = []
    for path in files:
        for key, value in read_config(path).items():
            if key not in known:
                raise ValueError(f"{path}: unknown key {key!r}.{closest(key, known)}")
            origin[key] = f"{path}: {key}: "
            tokens += _as_flag(key, value)
    for token in flags:
        if token.startswith("--"):
            origin.pop(token[2:].split("=")[0].replace("-", "_"), None)
    try:
        *parsed, rest = parser.parse_args_into_dataclasses([*tokens, *flags], return_remaining_strings=True)
    except ValueError as error:
        named = next((key for key in origin if f"--{key}" in str(error)), None)
        raise ValueError(f"{origin.get(named, '')}{error}") from None
    if rest:
        name = rest[0].lstrip("-").split("=")[0].replace("-", "_")
        raise ValueError(f"unknown flag {rest[0]!r}.{closest(name, known)}")
    if parsed[2].output_dir is None:
        raise ValueError(f"--output_dir is not given{''.join(f', nor output_dir in {path}' for path in files[:1])}.")
    if parsed[1].parsed_target_columns():
        _refuse_flags_of_classes(parsed[0], parsed[2])
    return tuple(parsed)


def _refuse_flags_of_classes(model: ModelArguments, training: SERTrainingArguments) -> None:
    """Refuses flags that a regression would ignore."""
    given = {flag: getattr(model, flag) for flag in FOR_CLASSES}
    given["label_smoothing_factor"] = training.label_smoothing_factor
    usual = {f.name: f.default for f in fields(ModelArguments)} | {"label_smoothing_factor": 0.0}
    for flag, value in given.items():
        if value != usual[flag]:
            raise ValueError(
                f"--{flag}: {value} is for classes, but --target_columns asks for a regression, whose loss is 1 minus "
                f"the concordance. Leave it {usual[flag]}."
            )


def split_files_from_flags(argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Splits a command line into configuration files, which come first, and flags."""
    first_flag = next((index for index, token in enumerate(argv) if token.startswith("-")), len(argv))
    return [Path(name) for name in argv[:first_flag]], list(argv[first_flag:])


def _as_flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (dict, list)):
        return [f"--{key}={json.dumps(value, ensure_ascii=False)}"]
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}"]


def merged_arguments(*arguments: Any) -> dict[str, Any]:
    """All arguments that differ from their defaults, as one flat dict that a YAML file can hold."""
    merged: dict[str, Any] = {}
    for kind in arguments:
        given = kind.to_dict() if isinstance(kind, TrainingArguments) else asdict(kind)
        # The defaults come from the fields: a second TrainingArguments object would reset the state that several
        # processes share, and each process would then train alone.
        usual = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
        changed = {key: value for key, value in given.items() if value != usual.get(key)}
        if isinstance(kind, TrainingArguments):  # which writes False and [] where its defaults say None and none
            changed = {key: value for key, value in changed.items() if value or usual.get(key) not in NOTHING}
        merged |= changed
    for key in DERIVED:
        merged.pop(key, None)
    for key in ("corpora", "label_map", "augmentations", "backbone_config"):
        if isinstance(merged.get(key), str):
            merged[key] = json.loads(merged[key])
    return json.loads(json.dumps(merged, default=str))

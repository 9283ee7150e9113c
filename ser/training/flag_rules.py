"""Rules for flags, in tables: ranges, flags without effect, and what cannot work; checked before any data is loaded.

A flag without effect is refused only if the user gave it in the same place as what takes its effect away, or later. So
`run_ser.py config.yaml --train_mode probe` passes whatever fine-tuning `config.yaml` describes.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ser.files import parse_json, read_json

INFINITY = math.inf
# Lowest and highest value, both allowed.
RANGES = {
    **dict.fromkeys(("classifier_proj_size", "gradient_accumulation_steps"), (1, INFINITY)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size", "save_total_limit"), (1, INFINITY)),
    **dict.fromkeys(("early_stopping_patience", "weight_decay", "warmup_steps", "max_grad_norm"), (0, INFINITY)),
    **dict.fromkeys(("learning_rate", "head_learning_rate", "lora_alpha", "logit_adjustment_tau"), (0, 1e38)),
    **dict.fromkeys(("dataloader_num_workers", "batch_seconds"), (0, INFINITY)),
    "label_smoothing_factor": (0, 1),
    **dict.fromkeys(("seed", "data_seed", "split_seed"), (0, 2**32 - 1)),
}
# Flags of transformers that this project needs as they are.
FIXED = {
    "dataloader_drop_last": (False, "every clip must be used and scored"),
    "prediction_loss_only": (False, "the scores of the clips are needed"),
    "remove_unused_columns": (False, "the collator decodes the clips from these columns"),
    "torch_compile_backend": (None, "the layers are compiled by inductor, with --torch_compile true"),
    "torch_compile_mode": (None, "the layers are compiled in inductor's own mode, with --torch_compile true"),
}
# Flags of earlier versions of transformers, and what to write instead.
RENAMED = {
    "evaluation_strategy": "--eval_strategy",
    "group_by_length": "--train_sampling_strategy group_by_length",
    "overwrite_output_dir": "--overwrite true",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "no_cuda": "--use_cpu true",
    "warmup_ratio": "--warmup_steps with a fraction below 1",
    "per_gpu_train_batch_size": "--per_device_train_batch_size",
    "per_gpu_eval_batch_size": "--per_device_eval_batch_size",
    "push_to_hub_model_id": "--hub_model_id",
    "push_to_hub_token": "--hub_token",
    "fp16_backend": "--fp16 true",
    "half_precision_backend": "--fp16 true or --bf16 true",
    "use_mps_device": "nothing: a GPU is found by itself",
}
# What a regression does not use.
FOR_CLASSES = ("loss", "focal_gamma", "logit_adjustment_tau", "mixup_alpha", "balance", "balanced_sampler")
# Metrics on dev that may choose the best checkpoint.
METRICS = {"classification": ("uar", "accuracy", "macro_f1", "loss"), "regression": ("ccc", "loss")}


@dataclass(frozen=True)
class NoEffect:
    """A flag that does nothing.

    Attributes:
        flag: Its name.
        causes: Flags that take its effect away.
        holds: Whether they do, from the values of all flags.
        words: Why, and what to do.
    """

    flag: str
    causes: tuple[str, ...]
    holds: Callable[[SimpleNamespace], bool]
    words: str


def _is_frozen(v: SimpleNamespace) -> bool:
    return v.freeze_base_model or v.train_mode == "probe"


NO_EFFECT = (
    NoEffect("focal_gamma", ("loss",), lambda v: v.loss != "focal", "needs --loss focal"),
    NoEffect("logit_adjustment_tau", ("loss",), lambda v: v.loss != "logit_adjusted", "needs --loss logit_adjusted"),
    NoEffect("lora_alpha", ("lora_rank",), lambda v: v.lora_rank == 0, "needs --lora_rank above 0"),
    NoEffect(
        "probe_augmented_copies",
        ("augmentations",),
        lambda v: v.probe_augmented_copies > 0 and not _augmentations(v),
        "needs --augmentations",
    ),
    NoEffect(
        "probe_augmented_copies",
        ("train_mode", "start_from_probe"),
        lambda v: v.probe_augmented_copies > 0 and v.train_mode != "probe" and v.start_from_probe is False,
        "needs --train_mode probe, or a head that is fitted on frozen statistics",
    ),
    NoEffect(
        "augmentations",
        ("train_mode", "probe_augmented_copies"),
        lambda v: _augmentations(v) and v.train_mode == "probe" and v.probe_augmented_copies == 0,
        "with --train_mode probe it needs --probe_augmented_copies above 0",
    ),
    NoEffect(
        "max_train_seconds",
        ("train_mode",),
        lambda v: v.max_train_seconds is not None and v.train_mode == "probe",
        "--train_mode probe hears whole clips",
    ),
    NoEffect(
        "whisper_full_window",
        ("model_name_or_path", "backbone_config"),
        lambda v: backbone_kind(v) not in (None, "whisper"),
        "the backbone is no Whisper",
    ),
    NoEffect(
        "layer_lr_decay",
        ("freeze_base_model", "train_mode"),
        lambda v: v.layer_lr_decay < 1 and _is_frozen(v),
        "the backbone is frozen",
    ),
    NoEffect(
        "torch_compile",
        ("train_mode", "do_train"),
        lambda v: v.torch_compile and (v.train_mode == "probe" or not v.do_train),
        "it compiles layers for fine-tuning, which --train_mode probe and --do_train false leave out",
    ),
    NoEffect(
        "calibrate",
        ("do_eval",),
        lambda v: v.calibrate and not v.do_eval and not v.final_fit,
        "needs dev, but --do_eval is false",
    ),
)


def check_flags(arguments: tuple[Any, ...], given: Mapping[str, int]) -> None:
    """Checks all flags against the tables of this module.

    Args:
        arguments: The dataclasses that hold the flags.
        given: The flags that the user gave, and in which place: the number of the file, or above that the command line.

    Raises:
        ValueError: A flag is out of its range, has no effect, or cannot work. The message names it.
    """
    values = SimpleNamespace(**{f.name: getattr(kind, f.name) for kind in arguments for f in fields(kind)})
    check_values(values, {f.name: f.default for kind in arguments for f in fields(kind)}, given)
    _check_reporting(values)


def check_values(values: SimpleNamespace, usual: Mapping[str, Any], given: Mapping[str, int]) -> None:
    """As [`check_flags`], without what needs transformers.

    Args:
        values: The values of all flags.
        usual: Their defaults.
        given: As for [`check_flags`].
    """
    _check_ranges(values)
    _check_metric(values)
    if values.target_columns:
        _refuse_flags_of_classes(usual, values)
    for rule in NO_EFFECT:
        since = max((given.get(cause, -1) for cause in rule.causes), default=-1)
        if given.get(rule.flag, -2) >= since and rule.holds(values):
            raise ValueError(f"--{rule.flag}: has no effect here: {rule.words}. Remove one of the two.")
    _check_paths(values)
    _check_depth(values)
    _check_compiler(values)


def _check_compiler(v: SimpleNamespace) -> None:
    named = os.environ.get("CXX", "").split()[:1] or ["g++", "clang++", "cl"]
    if v.torch_compile and not any(map(shutil.which, named)):
        raise ValueError(f"--torch_compile: needs a C++ compiler; found none of {', '.join(named)}. Install one.")


def renamed(name: str) -> str | None:
    """What to write instead of a flag of earlier versions of transformers; None for another name."""
    return f" transformers 5 has no such flag; use {RENAMED[name]}." if name in RENAMED else None


def backbone_kind(values: Any) -> str | None:
    """The `model_type` of the backbone, as far as it is known without the network."""
    shape = local_config(values.model_name_or_path) or _own_shape(values)
    shape = shape.get("backbone_config", shape)
    if kind := shape.get("model_type"):
        return kind
    name = (values.model_name_or_path or "").lower()
    return next((kind for kind in ("whisper", "hubert", "wav2vec2", "wavlm") if kind in name), None)


def local_config(name: str | None) -> dict[str, Any]:
    """The configuration of a model in a local folder; empty for one on the Hub."""
    path = Path(name or "") / "config.json"
    return read_json(path) if name and path.is_file() else {}


def _check_ranges(v: SimpleNamespace) -> None:
    for flag, (low, high) in RANGES.items():
        value = getattr(v, flag)
        if value is not None and not low <= value <= high:
            expected = f"{low} or more" if high == INFINITY else f"{low} to {high}"
            raise ValueError(f"--{flag}: {value} is out of range; expected {expected}.")
    if not (v.do_train or v.do_eval or v.do_predict):
        raise ValueError("--do_train, --do_eval and --do_predict are all false: there is nothing to do.")
    if not v.num_train_epochs > 0 and v.max_steps <= 0:
        raise ValueError(f"--num_train_epochs: {v.num_train_epochs}; expected a number above 0.")
    if v.max_steps == 0 or v.max_steps < -1:
        raise ValueError(f"--max_steps: {v.max_steps}; expected a number above 0, or -1 for --num_train_epochs.")
    for flag, (needed, why) in FIXED.items():
        if getattr(v, flag) != needed:
            raise ValueError(f"--{flag}: must be {str(needed).lower()}: {why}. Remove it.")
    seeds = [] if v.seeds is None else [seed.strip() for seed in v.seeds.split(",")]
    if not all(seed.isdigit() for seed in seeds):
        raise ValueError(f"--seeds: {v.seeds!r} is not a list of numbers such as 13,21,42.")
    if len({int(seed) for seed in seeds}) < len(seeds):
        raise ValueError(f"--seeds: {v.seeds} names a seed twice; each makes a run of its own.")


def _check_metric(v: SimpleNamespace) -> None:
    allowed = METRICS["regression" if v.target_columns else "classification"]
    name = str(v.metric_for_best_model).removeprefix("eval_")
    is_default = v.target_columns and name == "uar"  # which stands for ccc then
    if v.metric_for_best_model is not None and name not in allowed and not is_default:
        raise ValueError(f"--metric_for_best_model: {name!r} is not one of {', '.join(allowed)}.")


def _refuse_flags_of_classes(usual: Mapping[str, Any], v: SimpleNamespace) -> None:
    """Refuses flags that a regression would ignore."""
    for flag in (*FOR_CLASSES, "label_smoothing_factor"):
        if getattr(v, flag) != usual[flag]:
            raise ValueError(
                f"--{flag}: {getattr(v, flag)} is for classes, but --target_columns asks for a regression, whose loss "
                f"is 1 minus the concordance. Leave it {usual[flag]}."
            )


def _check_paths(v: SimpleNamespace) -> None:
    name = v.model_name_or_path
    is_path = name is not None and (name.startswith((".", "/", "~")) or name.count("/") > 1)
    if is_path and not Path(name).expanduser().is_dir():
        raise ValueError(f"--model_name_or_path: {name} is not a folder; give a folder, or user/name on the Hub.")
    folder = Path(v.output_dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--output_dir: {folder} cannot be made: {there} is a file. Choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--output_dir: {folder} cannot be written: no permission in {there}. Choose another folder.")


def _check_depth(v: SimpleNamespace) -> None:
    shape = {**local_config(v.model_name_or_path), **_own_shape(v)}
    shape = shape.get("backbone_config", shape)
    depth = shape.get("encoder_layers", shape.get("num_hidden_layers"))
    if depth is not None and not isinstance(depth, int):
        raise ValueError(f"--backbone_config: {depth!r} layers; expected a whole number.")
    if depth is not None and v.freeze_layers > depth:
        raise ValueError(f"--freeze_layers: {v.freeze_layers} of a backbone of {depth}; expected 0 to {depth}.")


def _check_reporting(v: SimpleNamespace) -> None:
    from transformers.integrations import get_reporting_integration_callbacks

    names = [name for name in v.report_to if name != "none"]
    for name in names:
        try:
            for kind in get_reporting_integration_callbacks([name]):
                kind()
        except (ImportError, RuntimeError, ValueError) as error:
            raise ValueError(f"--report_to: {name} cannot be used: {error} Install it, or leave it none.") from None


def _augmentations(v: SimpleNamespace) -> Any:
    return parse_json(v.augmentations, "--augmentations") if v.augmentations else []


def _own_shape(v: SimpleNamespace) -> dict[str, Any]:
    return parse_json(v.backbone_config, "--backbone_config") if v.backbone_config else {}

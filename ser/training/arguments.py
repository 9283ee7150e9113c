"""All flags of a run. A flat YAML becomes flags; these and the command line are parsed together, once."""

import json
import os
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch
from transformers import HfArgumentParser, TrainingArguments

from ser.data.data_arguments import DataArguments
from ser.training.command_line import check_command_line
from ser.training.flag_rules import check_flags
from ser.training.launch import settle_launch
from ser.training.model_arguments import ModelArguments, argument

# Set by TrainingArguments itself, or secret: not written to run_config.yaml.
DERIVED = ("accelerator_config", "dataloader_pin_memory", "hub_token")
NOTHING = (None, False, "", "none", "no")


@dataclass
class SERTrainingArguments(TrainingArguments):
    """The arguments of transformers, with other defaults and additional flags."""

    output_dir: str = argument(None, "Folder of the run.")  # `check_command_line` refuses a run without it
    do_train: bool = argument(True, "Train, calibrate and save a model.")
    do_eval: bool = argument(True, "Score the dev set.")
    do_predict: bool = argument(True, "Score the test set, once, after training.")
    eval_strategy: str = argument("epoch", "When dev is scored.")
    save_strategy: str = argument("epoch", "When a checkpoint is written.")
    save_total_limit: int | None = argument(1, "Number of checkpoints to keep, besides the best one.")
    load_best_model_at_end: bool = argument(True, "Use the checkpoint with the best dev score.")
    metric_for_best_model: str | None = argument(
        "uar", "Metric on dev that selects the best checkpoint: uar, accuracy, macro_f1, loss; ccc for a regression."
    )
    greater_is_better: bool | None = argument(
        None, "Whether more of that metric is better; default: false for loss, true for the others."
    )
    remove_unused_columns: bool = argument(False, "Must stay false: the collator decodes the clips.")
    report_to: str = argument("none", "tensorboard, wandb, ... or none.")
    logging_strategy: str = argument("epoch", "When the training loss is logged.")
    early_stopping_patience: int = argument(0, "Stop after this many evaluations without a better dev score; 0: never.")
    per_device_train_batch_size: int | None = argument(
        None, "Clips in a batch of one process; not with --batch_seconds."
    )
    batch_seconds: float | None = argument(
        None,
        "Seconds of audio in a batch of one process, padding included; 0: --per_device_train_batch_size clips. "
        "Default: 0 if that flag is given, otherwise what fits into the memory: 32 on a CPU, up to 64 on a GPU.",
    )
    bf16: bool | None = argument(
        None, "Train in bfloat16. Default: as the launcher says; without one, on a GPU that can."
    )
    final_fit: bool = argument(
        False,
        "After --fold all: train one more model on all clips with the choices of the folds, in --output_dir.",
    )
    num_processes: int | None = argument(None, "Processes that train together; the launcher decides, a run notes it.")
    seeds: str | None = argument(None, "Seeds of several runs, such as 13,21,42; default: --seed.")
    overwrite: bool = argument(False, "Replace a run that --output_dir already holds.")
    debug_errors: bool = argument(False, "Show the traceback of an error.")

    def __post_init__(self) -> None:
        if str(self.eval_strategy) == "no" or not self.do_eval:
            self.eval_strategy, self.load_best_model_at_end = "no", False
        if not torch.cuda.is_available():
            self.dataloader_pin_memory = False  # pinned memory only helps a GPU
        if self.batch_seconds is None:
            by_clips = self.per_device_train_batch_size is not None
            self.batch_seconds = 0.0 if by_clips else usual_batch_seconds(self.use_cpu)
        self.per_device_train_batch_size = self.per_device_train_batch_size or 8
        if self.bf16 is None:
            self.bf16 = not self.fp16 and trains_in_bfloat16(self.use_cpu)
        # With torch_compile, Trainer would compile the whole model, which fails (`compiled.py`), and switch TF32 on.
        compiles: bool = vars(self)["torch_compile"]
        self.torch_compile = False
        super().__post_init__()
        self.torch_compile = compiles

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
    line = check_command_line(argv)
    parser = _Parser(ARGUMENTS, allow_abbrev=False, description=__doc__)
    try:
        *parsed, rest = parser.parse_args_into_dataclasses(line.tokens, return_remaining_strings=True)
    except ValueError as error:
        named = next((key for key in line.origin if f"--{key}" in str(error)), None)
        raise ValueError(f"{line.origin[named] if named else ''}{error}") from None
    if rest:
        raise ValueError(f"{rest[0]!r} is neither a flag nor the value of one; files come first: CONFIG --flag value.")
    settle_launch(parsed[2])
    check_flags(tuple(parsed), line.given)
    return tuple(parsed)


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
    if merged.get("greater_is_better") == (not str(merged.get("metric_for_best_model", "uar")).endswith("loss")):
        del merged["greater_is_better"]
    for key in DERIVED:
        merged.pop(key, None)
    for key in ("corpora", "label_map", "augmentations", "backbone_config"):
        if isinstance(merged.get(key), str):
            merged[key] = json.loads(merged[key])
    return json.loads(json.dumps(merged, default=str))


def usual_batch_seconds(use_cpu: bool) -> float:
    """Seconds of audio in a batch of a base model that fit into the memory of the device.

    In float32, training such a model takes about 0.13 GB for each second, besides its weights
    (`benchmarks/bench_train.py`). More than 64 s would be few steps in an epoch of a small corpus.
    """
    if use_cpu or not torch.cuda.is_available():
        return 32.0
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    return float(min(64, max(8, 4 * int(gigabytes))))


def trains_in_bfloat16(use_cpu: bool) -> bool:
    """Whether bfloat16 is the default: on a GPU that has it, unless a launcher chose the precision."""
    is_chosen = "ACCELERATE_MIXED_PRECISION" in os.environ
    return not use_cpu and not is_chosen and torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)

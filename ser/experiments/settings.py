"""The settings of `ser ablate --over`, read and checked before torch is imported."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ser.data.clips import closest
from ser.data.data_arguments import DataArguments
from ser.files import parse_json
from ser.training.command_line import check_command_line, flags_of_a_run

# Runs whose test clips, folds or seeds differ cannot be paired, so `--over` does not take these flags.
_NOT_TO_VARY = {"output_dir", "seed", "seeds", "overwrite", "do_train", "do_eval", "do_predict", "debug_errors"}
_DATA_TO_VARY = {"augmentations", "max_train_seconds"}


def check_settings(argv: Sequence[str], over: Sequence[str]) -> None:
    """Checks the command line of an ablation, and that of each of its runs, as far as that needs no torch.

    Args:
        argv: What `run_ser.py` takes: `CONFIG [--flag value ...]`.
        over: Settings, `flag=value,value`.

    Raises:
        ValueError: See [`parse_settings`] and [`ser.training.command_line.check_command_line`].
    """
    values = parse_settings(over)
    check_command_line(argv)
    for flags in combinations(values):
        check_command_line([*argv, *(f"--{flag}={value}" for flag, value in flags.items())])


def combinations(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the settings, by flag."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def parse_settings(over: Sequence[str]) -> dict[str, list[str]]:
    """Settings as values by flag, in their order.

    Raises:
        ValueError: There is none, a flag occurs twice, or see [`parse_setting`].
    """
    values = [parse_setting(setting) for setting in over]
    if not values:
        raise ValueError("--over: is not given; name a flag and its values, such as --over pooling=mean,mean_std.")
    names = [name for name, _ in values]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--over: {twice[0]} is given twice; put all of its values into one.")
    return dict(values)


def parse_setting(setting: str) -> tuple[str, list[str]]:
    """`pooling=mean,mean_std` as the flag and its values, which may be a JSON list: `augmentations=[[], [{...}]]`.

    Raises:
        ValueError: It is not of that form, or the flag is not one that an ablation may vary.
    """
    name, separator, text = setting.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    allowed = (set(flags_of_a_run()) - {f.name for f in fields(DataArguments)} - _NOT_TO_VARY) | _DATA_TO_VARY
    if name not in allowed:
        raise ValueError(
            f"--over: {name!r} is not a flag of the model or of training.{closest(name, allowed)} Flags that change "
            "the test clips, folds or seeds are the same for every setting: give them as --flag value."
        )
    listed = parse_json(text, f"--over {name}") if text.startswith("[") else text.split(",")
    values = [_as_text(value).strip() for value in listed]
    if not separator or not all(values):
        raise ValueError(f"--over: {setting!r} is not of the form flag=value,value.")
    if len(set(values)) < len(values):
        raise ValueError(f"--over {name}: {text!r} names a value twice.")
    return name, values


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The command line of a run, read and checked before torch is imported: a typo is answered at once.

torch and transformers take ten seconds to import. The dataclass of transformers' arguments needs both, so the names,
types and defaults of its fields are read from its source; the other dataclasses of a run are small.
"""

import ast
import functools
import importlib.util
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ser.data.clips import closest
from ser.data.data_arguments import DataArguments
from ser.run_folder import CONFIG
from ser.training.flag_rules import check_values, renamed
from ser.training.model_arguments import ModelArguments
from ser.yaml_files import read_yaml

_OWN_ARGUMENTS = Path(__file__).parent / "arguments.py"
_KINDS = {kind.__name__: kind for kind in (int, float, bool, str)}
# What HfArgumentParser takes for a truth value.
_TRUTH = dict.fromkeys(("yes", "true", "t", "y", "1"), True) | dict.fromkeys(("no", "false", "f", "n", "0"), False)
_WORDS = {int: "is not a whole number", float: "is not a number", bool: "is neither true nor false"}


@dataclass(frozen=True)
class Flag:
    """A flag of a run.

    Attributes:
        kind: int, float, bool or str; None if its values are of another kind, which transformers reads.
        default: Its default value; None also if that is not a plain value.
        choices: The values that are allowed; empty if there is no such list.
    """

    kind: type | None
    default: Any
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommandLine:
    """A command line, in words that [`HfArgumentParser`] reads.

    Attributes:
        files: The configuration files.
        tokens: Flags of the files, then those of the command line; a later one wins.
        origin: File and key of each flag whose value comes from a file, for errors.
        given: For each flag, where it was given: the number of the file, or above that the command line.
    """

    files: list[Path]
    tokens: list[str]
    origin: dict[str, str]
    given: dict[str, int]


def check_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads `[CONFIG.yaml ...] [--flag value ...]` and checks all that can be checked without torch.

    Raises:
        ValueError: A key or flag is unknown, a value is not what its flag takes, out of range, or without effect. The
            message names the file and the key, or the flag.
        FileNotFoundError: There is no such file.
    """
    line = read_command_line(argv)
    values = SimpleNamespace(**{name: flag.default for name, flag in flags_of_a_run().items()})
    for name, value in _typed_values(line).items():
        setattr(values, name, value)
    for kind in (ModelArguments, DataArguments):
        own = {f.name: getattr(values, f.name) for f in fields(kind)}
        try:
            kind(**own)
        except ValueError as error:
            named = next((name for name in line.origin if f"--{name}:" in str(error)), None)
            raise ValueError(f"{line.origin[named] if named else ''}{error}") from None
    if values.output_dir is None:
        nor = "".join(f", nor output_dir in {path}" for path in line.files[:1])
        raise ValueError(f"--output_dir is not given{nor}.")
    check_values(values, {name: flag.default for name, flag in flags_of_a_run().items()}, line.given)
    return line


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """Reads the files and flags of a command line; unknown keys and flags are errors, see [`check_command_line`]."""
    files, flags = split_files_from_flags(argv)
    known = flags_of_a_run()
    origin: dict[str, str] = {}
    tokens: list[str] = []
    given: dict[str, int] = {}
    for number, path in enumerate(files):
        for key, value in read_yaml(path).items():
            if key not in known:
                raise ValueError(f"{path}: unknown key {key!r}.{renamed(key) or closest(key, known)}")
            origin[key] = f"{path}: {key}: "
            tokens += _as_flag(key, value)
            if path.name != CONFIG:  # there, a run wrote down the flags of several files
                given[key] = number
    for token in flags:
        if token.startswith("--") and token != "--help":
            name = name_of(token)
            if name not in known:
                raise ValueError(f"unknown flag {token.split('=')[0]!r}.{renamed(name) or closest(name, known)}")
            origin.pop(name, None)
            given[name] = len(files)
    return CommandLine(files, [*tokens, *flags], origin, given)


def name_of(token: str) -> str:
    """The name of the field that a flag sets: `num_folds` for `--num-folds=3`, `do_eval` for `--no_do_eval`."""
    name = token.lstrip("-").split("=")[0].replace("-", "_")
    flag = flags_of_a_run().get(name.removeprefix("no_"))
    return name.removeprefix("no_") if flag is not None and flag.kind is bool and flag.default is True else name


def split_files_from_flags(argv: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Splits a command line into configuration files, which come first, and flags."""
    first_flag = next((index for index, token in enumerate(argv) if token.startswith("-")), len(argv))
    return [Path(name) for name in argv[:first_flag]], list(argv[first_flag:])


@functools.cache
def flags_of_a_run() -> dict[str, Flag]:
    """All flags of `run_ser.py`, by name."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ImportError("transformers is not installed: pip install ser.")
    theirs = Path(spec.origin).parent / "training_args.py"
    found = _flags_in_source(theirs, "TrainingArguments") | _flags_in_source(_OWN_ARGUMENTS, "SERTrainingArguments")
    for kind in (ModelArguments, DataArguments):
        for f in fields(kind):
            inner: Any = next((k for k in typing.get_args(f.type) if k is not types.NoneType), f.type)
            found[f.name] = Flag(inner, f.default, tuple(f.metadata.get("choices") or ()))
    return found


def _flags_in_source(path: Path, name: str) -> dict[str, Flag]:
    """The fields of a dataclass, from its source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.target.id: Flag(_kind_of(ast.unparse(node.annotation)), _default_of(node.value))
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }


def _kind_of(annotation: str) -> type | None:
    names = {word.strip() for word in annotation.split("|")} - {"None"}
    return _KINDS.get(names.pop()) if len(names) == 1 else None


def _default_of(value: ast.expr) -> Any:
    """The default of `field(default=...)` or `argument(default, ...)`."""
    if not isinstance(value, ast.Call):
        return None
    given = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), None)
    given = given or next(iter(value.args), None)
    try:
        return None if given is None else ast.literal_eval(given)
    except ValueError:  # a member of an enumeration, which no rule of ours reads
        return None


def _typed_values(line: CommandLine) -> dict[str, Any]:
    """The values of all flags that were given; those that only transformers can read stay text."""
    values: dict[str, Any] = {}
    for index, token in enumerate(line.tokens):
        if not token.startswith("--") or token == "--help":
            continue
        name, (_, has_value, own) = name_of(token), token.partition("=")
        following = line.tokens[index + 1 : index + 2]
        text = own if has_value else next((word for word in following if not word.startswith("--")), None)
        if text is None:  # a truth value alone; of another flag the value is missing, which the parser says
            is_no = name != token.lstrip("-").replace("-", "_")
            values |= {name: not is_no} if flags_of_a_run()[name].kind is bool else {}
        else:
            values[name] = _typed(line.origin.get(name) or f"--{name}: ", name, text)
    return values


def _typed(where: str, name: str, text: str) -> Any:
    flag = flags_of_a_run()[name]
    if flag.kind is bool and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if flag.kind is bool:
        raise ValueError(f"{where}{text!r} {_WORDS[bool]}.")
    if flag.choices and text not in flag.choices:
        allowed = f"{', '.join(flag.choices)}.{closest(text, flag.choices)}"
        raise ValueError(f"{where}{text!r} is not one of {allowed}")
    if flag.kind in (int, float):
        try:
            return flag.kind(text)
        except ValueError:
            raise ValueError(f"{where}{text!r} {_WORDS[flag.kind]}.") from None
    return text


def _as_flag(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, (dict, list)):
        return [f"--{key}={json.dumps(value, ensure_ascii=False)}"]
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}"]

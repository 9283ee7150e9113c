"""The flags about data: one dataclass, read from a flat YAML file and from the command line."""

import argparse
import itertools
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ser.data.clips import closest
from ser.data.corpora.audformat_tables import HEADER
from ser.data.corpora.table import CORPORA as LISTINGS
from ser.files import parse_json
from ser.names import tidy
from ser.yaml_files import read_yaml

CORPORA = tuple(LISTINGS)
LABEL_SOURCES = ("filename", "modified")
PROTOCOLS = (
    "speaker_kfold",
    "leave_one_speaker_out",
    "leave_one_session_out",
    "leave_one_corpus_out",
    "train_on_one_corpus",
    "random_kfold",
    "random_holdout",
    "given",
    "emobox_fold_1",
    "nkululeko",
)
MAX_SYNTHETIC_VOICES = 12
_ENTRY_KEYS = ("corpus", "data_dir", "manifest", "dataset_name", "label_map", "name")


def _argument(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class DataArguments:
    """Which clips to use, with which labels, and how to split them; each field holds the help of its flag.

    Raises:
        ValueError: A value is outside its range, or two values exclude each other. The message names the flag.
    """

    corpus: str = _argument("shemo", "Which corpus to prepare.", choices=CORPORA)
    data_dir: str | None = _argument(
        None, "Folder that holds the recordings (ShEMO: folders or the two zips; without it, they are downloaded)."
    )
    manifest: str | None = _argument(
        None,
        "CSV, JSONL, JSON, Parquet or XLSX with the columns path and label and, if known, id, speaker, gender, split, "
        "start, end, transcript; or the folder of an audformat database.",
    )
    dataset_name: str | None = _argument(
        None, "For --corpus dataset: folder of save_to_disk, or user/name[:configuration] on the Hub."
    )
    allow_outside_paths: bool = _argument(
        False, "Read files of the manifest that are neither in its folder nor in --data_dir."
    )
    folder_levels: str | None = _argument(
        None, "What the levels of folders in --corpus folder mean: label, speaker, split, or - (split,label,speaker)."
    )
    corpora: str | None = _argument(
        None,
        'JSON list of corpora to join: [{"corpus": "emodb", "data_dir": "emodb"}, ...]; each may have data_dir, '
        "manifest, dataset_name, label_map and name. Replaces --corpus.",
    )
    label_source: str = _argument(
        "filename", "ShEMO's labels: the letter in the file name, or modified_shemo.json.", choices=LABEL_SOURCES
    )
    modified_labels: str | None = _argument(None, "Path of modified_shemo.json; looked for in data_dir by default.")
    label_map: str | None = _argument(
        None, 'JSON object that merges or drops classes: {"joy": "happiness", "other": null}.'
    )
    target_columns: str | None = _argument(
        None, "Columns of numbers in the manifest to predict instead of a class: valence,arousal,dominance."
    )
    protocol: str = _argument("speaker_kfold", "How clips are split into train, dev and test.", choices=PROTOCOLS)
    splits_file: str | None = _argument(None, "File that holds the split, for --protocol given and published ones.")
    num_folds: int = _argument(5, "Number of folds of the k-fold protocols; at most the number of speakers.")
    fold: str = _argument("0", "The fold to test on, counted from 0, or all.")
    split_seed: int = _argument(42, "Seed of the split.")
    accept_speaker_leakage: bool = _argument(
        False, "Train even if speakers are unknown or shared between parts; results are then speaker-dependent."
    )
    accept_near_copies: bool = _argument(
        False, "Train even if recordings in two parts sound the same to a fingerprint; the results then name them."
    )
    speakers_differ: bool = _argument(
        False, "Treat speakers whose names differ in spelling alone (S01 and s01, 3 and 03) as different people."
    )
    skip_unreadable: bool = _argument(False, "Leave out files that cannot be used; the results count them.")
    max_file_seconds: float = _argument(
        14_400.0, "Refuse longer recordings before they are decoded: a damaged header may promise days of audio."
    )
    augmentations: str | None = _argument(
        None, 'JSON list of audiomentations transforms: [{"name": "AddGaussianNoise", "p": 0.5}]. Train only.'
    )
    max_train_seconds: float | None = _argument(None, "Crop longer training clips to this length, at a random start.")
    num_proc: int | None = _argument(None, "Processes that decode and resample; all cores by default.")
    cache_dir: str | None = _argument(None, "Where prepared corpora are kept; the cache of datasets by default.")
    data_page: bool | None = _argument(
        None,
        "Write data.html, a page about the corpus. By default data_prep.py writes it, from at most 1,000 voices and "
        "5,000 recordings; true measures all, and makes run_ser.py write it too.",
    )
    max_clips: int | None = _argument(None, "Use only this many clips, evenly spaced over the corpus, for a quick try.")
    synthetic_clips: int = _argument(720, "Number of clips of --corpus synthetic.")
    synthetic_voices: int = _argument(12, f"Number of voices of --corpus synthetic, 2 to {MAX_SYNTHETIC_VOICES}.")
    synthetic_seed: int = _argument(0, "Seed of --corpus synthetic.")

    def __post_init__(self) -> None:
        for flag, allowed in (("corpus", CORPORA), ("label_source", LABEL_SOURCES), ("protocol", PROTOCOLS)):
            _check_choice(flag, getattr(self, flag), allowed)
        for flag, low in (("num_proc", 1), ("max_clips", 1), ("num_folds", 2), ("synthetic_clips", 1)):
            value = getattr(self, flag)
            if value is not None and value < low:
                raise ValueError(f"--{flag}: {value} is too small; it must be {low} or more.")
        if not 2 <= self.synthetic_voices <= MAX_SYNTHETIC_VOICES:
            raise ValueError(f"--synthetic_voices: {self.synthetic_voices} is outside 2 to {MAX_SYNTHETIC_VOICES}.")
        for flag in ("max_train_seconds", "max_file_seconds"):
            if getattr(self, flag) is not None and not getattr(self, flag) > 0:
                raise ValueError(f"--{flag}: {getattr(self, flag)} must be more than 0.")
        needed = {"manifest": ("manifest",), "dataset_name": ("dataset",), "target_columns": ("manifest", "dataset")}
        for flag, corpora in needed.items():
            if getattr(self, flag) and self.corpus not in corpora and not self.corpora:
                what = " or ".join(corpora)
                raise ValueError(f"--{flag}: {getattr(self, flag)!r} needs --corpus {what}, not {self.corpus}.")
        self.parsed_label_map()
        self.entries()

    def entries(self) -> dict[str, "DataArguments"]:
        """The corpora of `--corpora` by name, each with its own arguments; empty without `--corpora`.

        The name of an entry is its `name`, else that of its manifest or folder, else that of `--corpus`. A second entry
        with one name gets `-2` at its end.
        """
        if not self.corpora:
            return {}
        for flag in ("data_dir", "manifest", "dataset_name"):
            if getattr(self, flag):
                raise ValueError(
                    f"--{flag}: {getattr(self, flag)!r}, but --corpora is given; move it into an entry of that list."
                )
        listed = parse_json(self.corpora, "--corpora")
        if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
            raise ValueError(f"--corpora: {self.corpora!r} must be a list of objects, each with the key corpus.")
        found: dict[str, DataArguments] = {}
        for number, entry in enumerate(listed, start=1):
            try:
                name, own = self._entry(entry)
                if name in found and entry.get("name"):
                    raise ValueError(f"name: {name!r} is the name of another entry too; give each entry its own name.")
            except ValueError as error:
                raise ValueError(f"--corpora, entry {number}: {error}") from None
            free = (f"{name}-{copy}" for copy in itertools.count(2) if f"{name}-{copy}" not in found)
            found[next(free) if name in found else name] = own
        return found

    def _entry(self, entry: dict[str, Any]) -> tuple[str, "DataArguments"]:
        """Name and arguments of one entry of `--corpora`."""
        for key in entry:
            if key not in _ENTRY_KEYS:
                raise ValueError(f"unknown key {key!r}, expected {', '.join(_ENTRY_KEYS)}.{closest(key, _ENTRY_KEYS)}")
        if "corpus" not in entry:
            raise ValueError(f"has no key corpus, which is one of {', '.join(CORPORA)}.")
        values: dict[str, Any] = {key: entry.get(key) for key in ("corpus", "data_dir", "manifest", "dataset_name")}
        for key, value in values.items():
            if not isinstance(value, (str, types.NoneType)):
                raise ValueError(f"{key}: {value!r} is not text; in a YAML file, put it between quotes.")
        label_map = entry.get("label_map")
        label_map = label_map if label_map is None or isinstance(label_map, str) else json.dumps(label_map)
        own = replace(self, corpora=None, label_map=label_map, max_clips=None, **values)
        name = str(entry.get("name") or own.corpus_name())
        if "/" in name:
            raise ValueError(f"name: {name!r} has a slash; leave it out, ids put one between corpus and clip.")
        return name, own

    def corpus_name(self) -> str:
        """The name of this corpus in the column `corpus`."""
        if self.corpus == "manifest" and self.manifest:
            path = Path(self.manifest).expanduser()
            return path.absolute().parent.name if path.name == HEADER else path.stem
        if self.corpus == "dataset" and self.dataset_name:
            return Path(self.dataset_name).name
        if self.corpus == "folder" and self.data_dir:
            return Path(self.data_dir).expanduser().resolve().name
        return self.corpus

    def parsed_label_map(self) -> dict[str, str | None]:
        """The label map as a dictionary; empty when none is given."""
        if self.label_map is None:
            return {}
        mapping = parse_json(self.label_map, "--label_map")
        if not isinstance(mapping, dict) or not all(v is None or isinstance(v, str) for v in mapping.values()):
            raise ValueError(
                f"--label_map: {self.label_map!r} must be an object from label to label, or to null to drop it."
            )
        return {tidy(label): new and tidy(new) for label, new in mapping.items()}

    def parsed_target_columns(self) -> list[str]:
        """The names of the columns to regress on, given as `a,b` or as a JSON list; empty for classification."""
        text = (self.target_columns or "").strip()
        names = parse_json(text, "--target_columns") if text.startswith("[") else text.split(",")
        return [name for name in (str(name).strip() for name in names) if name]


def _check_choice(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"--{flag}: {value!r} is not one of {', '.join(allowed)}.{closest(str(value), allowed)}")


def read_data_arguments(argv: Sequence[str], program: str = "data_prep.py") -> tuple[DataArguments, str | None]:
    """Parses `CONFIG.yaml [--flag value ...]` for the data alone; keys of model and training are ignored.

    It does not use transformers, whose parser takes seconds to import.

    Args:
        argv: The command line without the name of the program.
        program: The command, for errors.

    Returns:
        The arguments and `output_dir`, None where neither names one.

    Raises:
        ValueError: A key looks like a misspelt one, a flag is unknown or a value is not what its key takes. The
            message names the file and the key.
        FileNotFoundError: There is no such file.
    """
    parser = _Parser(prog=program, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("config", nargs="?", help="flat YAML file")
    parser.add_argument("--output_dir", help="Where the plots are written.")
    known: dict[str, Any] = {"output_dir": str}
    for entry in fields(DataArguments):
        optional: dict[str, Any] = {"nargs": "?", "const": "true"} if entry.type is bool else {}
        parser.add_argument(f"--{entry.name}", help=entry.metadata["help"].replace("%", "%%"), **optional)
        known[entry.name] = entry.type
    parsed, rest = parser.parse_known_args(argv)
    if rest:
        raise ValueError(f"{rest[0]}: no such flag of {program}.{closest(rest[0].lstrip('-').split('=')[0], known)}")
    flags = vars(parsed)
    config = flags.pop("config", None)
    values = {}
    for key, value in (read_yaml(Path(config)) if config else {}).items():
        if key in known and value is not None:
            values[key] = _typed(f"{config}: {key}", _as_text(value), known[key])
        elif key not in known and (guess := closest(key, known, cutoff=0.8)):
            raise ValueError(f"{config}: unknown key {key!r}.{guess}")
    values |= {key: _typed(f"--{key}", text, known[key]) for key, text in flags.items()}
    output_dir = values.pop("output_dir", None)
    try:
        return DataArguments(**values), output_dir
    except ValueError as error:
        named = next((key for key in values if f"--{key}:" in str(error) and key not in flags), None)
        raise ValueError(f"{config}: {named}: {error}" if named else str(error)) from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(message)


def _as_text(value: Any) -> str:
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _typed(where: str, text: str, kind: Any) -> Any:
    """Turns text into a bool, int, float or str, whichever the field takes."""
    kind = next(k for k in typing.get_args(kind) if k is not types.NoneType) if typing.get_args(kind) else kind
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(f"{where}: {text!r} is neither true nor false.")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not {'a whole number' if kind is int else 'a number'}.") from None

"""The user's own clips as a CSV or JSONL file lists them."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ser.clip_names import shortest_ids
from ser.data.clips import closest, listed, split_word
from ser.data.columns import renamed_columns
from ser.data.corpora.recordings import GENDERS, Corpus, Recording, folder_of, own_corpus
from ser.names import cell, speaker_cell, tidy

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_COLUMNS = ("id", "path", "label", "speaker", "gender", "split", "session", "transcript", "ipa")
_MADE_COLUMNS = ("emotion", "duration", "source_sampling_rate", "audio")


def manifest(args: "DataArguments") -> Corpus:
    """Clips of a CSV or JSONL file: `path`, `label`, and `id`, `speaker`, `gender`, `split`, `session`, `transcript`.

    Other names for these columns, in `ser.data.columns`, are read too; a CSV may have commas, semicolons or tabs.

    Paths are relative to `--data_dir`, or else to the manifest. `--target_columns` adds columns of numbers; the label
    may then be absent.

    Raises:
        ValueError: The manifest is not UTF-8, lacks a column or holds no clip, or a target column has a taken name.
    """
    if not args.manifest:
        raise ValueError("--manifest: --corpus manifest needs a CSV or JSONL file with the columns path and label.")
    source = Path(args.manifest).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"--manifest: {args.manifest!r} is not a file.")
    root = folder_of(args) if args.data_dir else source.parent
    targets = args.parsed_target_columns()
    if taken := set(targets) & {*_COLUMNS, *_MADE_COLUMNS}:
        raise ValueError(f"--target_columns: {', '.join(sorted(taken))} has a meaning of its own; rename the column.")
    try:
        rows = _rows(source)
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: is not UTF-8 text ({error}); save it as UTF-8.") from None
    renamed = renamed_columns(dict.fromkeys(name for _, row in rows for name in row), keep=targets)
    rows = [(where, {renamed.get(name, name): text for name, text in row.items()}) for where, row in rows]
    columns = {name for _, row in rows for name in row}
    for name in ("path", *(targets or ["label"])):
        if name not in columns:
            raise ValueError(
                f"{source}: has no column {name!r}, only {listed(sorted(columns))}; rename it." + closest(name, columns)
            )
    ids = shortest_ids(row["path"] for _, row in rows if Path(row.get("path", "")).is_absolute())
    rows = [(where, {"id": ids.get(row.get("path")), **row}) for where, row in rows]
    recordings = [_row_recording(row, where, targets, "label" in columns) for where, row in rows]
    corpus = own_corpus(args, root, recordings)
    taken_as = [f"column {name!r} is read as {meaning}" for name, meaning in renamed.items()]
    facts = corpus.facts | ({"notes": [f"{source.name}: {', '.join(taken_as)}."]} if taken_as else {})
    return replace(corpus, facts=facts, target_columns=tuple(targets), has_split="split" in columns)


def _rows(source: Path) -> list[tuple[str, dict[str, str]]]:
    """Reads a manifest into `(line number in words, cells as text)`; empty cells are left out."""
    with open(source, encoding="utf-8-sig", newline="") as file:
        if source.suffix.lower() in (".jsonl", ".json", ".ndjson"):
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
            rows = [(f"line {number}", _json_row(source, number, line)) for number, line in lines]
        else:
            reader = csv.DictReader(file, delimiter=_delimiter(file))
            rows = [(f"line {reader.line_num}", row) for row in reader if any(row.values())]
    if not rows:
        raise ValueError(f"{source}: holds no clip.")
    for where, row in rows:
        if None in row:
            raise ValueError(f"{source}: {where} has more cells than the header; put a cell with a comma in quotes.")
    return [(where, _cells(row)) for where, row in rows]


def _delimiter(file: TextIO) -> str:
    """The most frequent of comma, semicolon and tab in the header; the file is read from its start again."""
    header = file.readline()
    file.seek(0)
    return max(",;\t", key=header.count)


def _json_row(source: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}: line {number} is not JSON ({error}).") from None
    if not isinstance(row, dict):
        raise ValueError(f"{source}: line {number} is not a JSON object with the keys path and label.")
    return row


def _cells(row: dict[str, Any]) -> dict[str, str]:
    # A path is taken as it is written: the file has that name.
    texts = {tidy(n): str(v or "").strip() if tidy(n) == "path" else cell(v) for n, v in row.items()}
    return {name: text for name, text in texts.items() if text}


def _row_recording(row: dict[str, str], where: str, targets: list[str], has_labels: bool) -> Recording:
    path = row.get("path", "")
    values, split, problem = [], None, None
    try:
        if not path:
            raise ValueError("has no path")
        if has_labels and "label" not in row:
            raise ValueError("has no label (NaN, None, n/a and the like mean none)")
        split = split_word(row.get("split"))
        values = [_number(row, name) for name in targets]
    except ValueError as error:
        problem = f"{where} {error}"
    return Recording(
        id=row.get("id") or (tidy(Path(path).with_suffix("").as_posix()) if path else where),
        path=path or where,
        emotion=row.get("label"),
        speaker=speaker_cell(row.get("speaker")),
        gender=GENDERS.get(row.get("gender", "").lower()),
        transcript=row.get("transcript"),
        ipa=row.get("ipa"),
        split=split,
        session=row.get("session"),
        targets=tuple(values),
        problem=problem,
    )


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        found = repr(row[name]) if name in row else "nothing"
        raise ValueError(f"has {found} in the column {name!r}, not a number")
    return value

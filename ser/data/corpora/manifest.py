"""The user's own clips as a table lists them: CSV, JSON Lines, a JSON array, Parquet, XLSX or audformat."""

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ser.audio_files import as_on_disk
from ser.clip_names import shortest_ids
from ser.data.clips import closest, listed, split_word
from ser.data.columns import renamed_columns, unused_columns
from ser.data.corpora.audformat_tables import HEADER
from ser.data.corpora.manifest_paths import find_paths, plain_path, unused_files
from ser.data.corpora.manifest_rows import read_rows
from ser.data.corpora.problems import tell_unused
from ser.data.corpora.recordings import GENDERS, Corpus, Recording, folder_of, own_corpus
from ser.data.segments import segment_of
from ser.names import speaker_cell, tidy

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_COLUMNS = ("id", "path", "label", "speaker", "gender", "split", "session", "transcript", "ipa", "start", "end")
MADE_COLUMNS = ("emotion", "duration", "source_sampling_rate", "audio")


def manifest(args: "DataArguments") -> Corpus:
    """Clips of a table: `path`, `label`, and `id`, `speaker`, `gender`, `split`, `session`, `transcript`.

    A row with `start` and `end`, or with `start` and `duration`, in seconds, is that segment of its file; an id made
    from the path gets these times. Other names for columns, in `ser.data.columns`, are read too; a CSV may have commas,
    semicolons or tabs.

    Paths are relative to `--data_dir`, the manifest or the current folder. `--target_columns` adds columns of numbers;
    the label may then be absent.

    Raises:
        ValueError: The manifest cannot be read, lacks a column, holds no clip or names a path outside its folder, or a
            target column has a taken name.
    """
    if not args.manifest:
        raise ValueError(
            "--manifest: --corpus manifest needs a CSV, JSONL, JSON, Parquet or XLSX file with the columns path and "
            "label, or the folder of an audformat database."
        )
    source = as_on_disk(Path(args.manifest).expanduser())
    source = source / HEADER if (source / HEADER).is_file() else source
    if not source.is_file():
        several = " Join several tables into one, with a column split." if "," in args.manifest else ""
        raise FileNotFoundError(f"--manifest: {args.manifest!r} is not a file.{several}")
    root = folder_of(args) if args.data_dir else source.parent
    targets = args.parsed_target_columns()
    if taken := set(targets) & {*_COLUMNS, *MADE_COLUMNS}:
        raise ValueError(f"--target_columns: {', '.join(sorted(taken))} has a meaning of its own; rename the column.")
    rows = read_rows(source)
    names = dict.fromkeys(name for _, row in rows for name in row)
    renamed, unused = renamed_columns(names, keep=targets), unused_columns(names, keep=targets)
    rows = [(where, {renamed.get(name, name): text for name, text in row.items()}) for where, row in rows]
    columns = {name for _, row in rows for name in row}
    for name in ("path", *(targets or ["label"])):
        if name not in columns:
            raise ValueError(
                f"{source}: has no column {name!r}, only {listed(sorted(columns))}; rename it."
                + (closest(name, columns) or _one_hot_words(rows))
            )
    texts = [row["path"] for _, row in rows if "path" in row]
    folders = [root, source.parent] if args.data_dir else [root]
    found, ids = find_paths(texts, folders, args.allow_outside_paths), _ids_of(texts)
    recordings = [row_recording(row, where, targets, "label" in columns) for where, row in rows]
    recordings = [_located(one, row, found, ids) for one, (_, row) in zip(recordings, rows, strict=True)]
    tell_unused(
        unused_files(root, set(found.values()), deep=bool(args.data_dir)), f"in {root} are not in {source.name}"
    )
    corpus = own_corpus(args, root, recordings)
    taken_as = [f"column {name!r} is read as {meaning}" for name, meaning in renamed.items()]
    taken_as += [f"column {name!r} is not read, as {own!r} is the {what}" for name, (own, what) in unused.items()]
    facts = corpus.facts | ({"notes": [f"{source.name}: {', '.join(taken_as)}."]} if taken_as else {})
    return replace(corpus, facts=facts, target_columns=tuple(targets), has_split="split" in columns)


def _one_hot_words(rows: list[tuple[str, dict[str, str]]]) -> str:
    """Says so where each class has a column of 0 and 1."""
    values: dict[str, set[str]] = {}
    for _, row in rows:
        for name, text in row.items():
            values.setdefault(name, set()).add(text)
    classes = sorted(name for name, texts in values.items() if texts <= {"0", "1", "0.0", "1.0"})
    if len(classes) < 2:
        return ""
    return f" The columns {listed(classes, 3)} hold 0 and 1 only: write the name of the class into one column, label."


def row_recording(row: dict[str, str], where: str, targets: list[str], has_labels: bool) -> Recording:
    """A row of a table as a recording; what is wrong with it becomes its `problem`.

    Args:
        row: Cells by our names for columns; empty ones are left out.
        where: The row in words.
        targets: Columns of numbers.
        has_labels: Whether the table has labels.
    """
    path = row.get("path", "")
    values, split, segment, problem = [], None, None, None
    try:
        if not path:
            raise ValueError("has no path")
        if has_labels and "label" not in row:
            raise ValueError("has no label (NaN, None, n/a and the like mean none)")
        split = split_word(row.get("split"))
        segment = segment_of(row)
        values = [_number(row, name) for name in targets]
    except ValueError as error:
        problem = f"{where} {error}"
    return Recording(
        id=where,
        path=path or where,
        emotion=row.get("label"),
        speaker=speaker_cell(row.get("speaker")),
        gender=GENDERS.get(row.get("gender", "").lower()),
        transcript=row.get("transcript"),
        ipa=row.get("ipa"),
        split=split,
        session=row.get("session"),
        targets=tuple(values),
        segment=segment,
        problem=problem,
    )


def _ids_of(texts: list[str]) -> dict[str, str]:
    """The name that each path gives to its clip."""
    plain = {text: plain_path(text) for text in texts}
    short = shortest_ids(path for path in plain.values() if Path(path).is_absolute())
    inside = {path: re.sub(r"^(\.\./)+", "", os.path.normpath(path)) for path in plain.values() if path not in short}
    return {
        text: short.get(path) or tidy(Path(inside[path]).with_suffix("").as_posix()) for text, path in plain.items()
    }


def _located(recording: Recording, row: dict[str, str], found: dict[str, str], ids: dict[str, str]) -> Recording:
    """The recording with the path of its file, and the id that its row gives or that its path and times make."""
    if "path" not in row:
        return replace(recording, id=row.get("id", recording.id))
    made = ids[row["path"]] + (recording.segment.suffix() if recording.segment else "")
    return replace(recording, path=found[row["path"]], id=row.get("id", made))


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        found = repr(row[name]) if name in row else "nothing"
        raise ValueError(f"has {found} in the column {name!r}, not a number")
    return value

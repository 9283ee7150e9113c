"""Reading of splits from files: ours, EmoBox's JSONL, nkululeko's CSV, or any table of names."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ser.audio_files import as_on_disk
from ser.clip_names import matched, plain_name, stem
from ser.data.clips import ALL_CLIPS, DEV, SPLITS, TEST, TRAIN, Clip, listed, read_clips, split_word
from ser.data.columns import COLUMN_NAMES
from ser.data.corpora.audformat_tables import HEADER
from ser.data.corpora.manifest_rows import is_json_array, read_rows
from ser.data.corpora.shemo import LETTERS
from ser.data.folds import fold_hash
from ser.data.segments import segment_of
from ser.files import read_json
from ser.names import cell, is_text, speaker_cell

# The names that tables use for a column; the first one found is taken.
_COLUMNS = {
    "id": ("id", *COLUMN_NAMES["path"], "key"),
    "speaker": COLUMN_NAMES["speaker"],
    "gender": COLUMN_NAMES["gender"],
    "emotion": COLUMN_NAMES["label"],
    "split": COLUMN_NAMES["split"],
    "recording": ("recording",),
    "file": COLUMN_NAMES["path"],
    "start": COLUMN_NAMES["start"],
    "end": COLUMN_NAMES["end"],
    "duration": COLUMN_NAMES["duration"],
}
# File names that tell the speaker (and, in ShEMO, gender and label): F03S02, EMO-DB's 03a01Fa, RAVDESS's
# 03-01-06-01-02-01-12.
_NAMES = (
    re.compile(r"(?P<speaker>(?P<gender>[FM])\d\d)(?P<letter>[AFHNSW])\d{2,3}"),
    re.compile(r"(?P<speaker>\d\d)[ab]\d\d[WLEAFTN][a-z]?"),
    re.compile(r"0[123]-(?:\d\d-){5}(?P<speaker>\d\d)"),
)
_REMEDY = "get it again, or make the split again"
_PATTERNS = {"emobox_fold_1": "*_fold_1.jsonl", "nkululeko": "*.csv", "given": "*"}
_HOMES = {
    "emobox_fold_1": "github.com/emo-box/EmoBox, data/shemo/fold_1",
    "nkululeko": "github.com/felixbur/nkululeko, data/shemo",
}


def given_parts(clips: Iterable[Clip], splits_file: str | None, protocol: str) -> tuple[dict[str, str], list[str]]:
    """The part of each clip as its source gives it, and notes for the reader.

    Args:
        clips: The corpus.
        splits_file: A file, several with commas between, or a folder; without it, the clips' own `split` is read.
        protocol: "given", or the name of a published split, which needs its files.

    Returns:
        `{id: "train" | "dev" | "test"}`, and notes on names that only the files have.

    Raises:
        ValueError, FileNotFoundError: There is no split, a file is not a split, or a clip is in two parts.
    """
    clips = list(clips)
    if not splits_file:
        if protocol != "given":
            raise ValueError(
                f"--protocol {protocol}: needs --splits_file, its files or their folder; see {_HOMES[protocol]}."
            )
        return {clip.id: clip.split for clip in clips if clip.split}, []
    rows = [row for path in split_paths(splits_file, protocol) for row in read_split_file(path)]
    id_of = matched([row.id for row in rows], [clip.id for clip in clips], "--splits_file")
    part_of: dict[str, str] = {}
    for row in rows:
        if row.id in id_of and row.split and part_of.setdefault(id_of[row.id], row.split) != row.split:
            raise ValueError(
                f"--splits_file: {row.id} is in {part_of[id_of[row.id]]} and in {row.split}; see `ser audit`."
            )
    if not id_of:
        raise ValueError(
            f"--splits_file: none of its {len(rows)} names is an id of the corpus: {rows[0].id}, {clips[0].id}."
        )
    absent = sorted({row.id for row in rows} - set(id_of))
    notes = [
        f"{len(absent)} of the {len(rows)} clips that the split names are not in the corpus ({listed(absent, 3)})."
    ]
    return part_of, notes if absent else []


def unused_splits_file(columns: Any, protocol: str, path: str | None) -> str | None:
    """A sentence on frozen folds that are not applied because they name none of the clips; None where they are applied.

    This happens when a configuration that names the folds of one corpus is used for another corpus.

    Args:
        columns: The corpus, as for `read_clips`.
        protocol: Only "speaker_kfold" uses frozen folds.
        path: The file, if there is one.

    Raises:
        ValueError, FileNotFoundError: The file holds no frozen folds, or was changed.
    """
    if protocol != "speaker_kfold" or not path:
        return None
    fold_of, clips = _read_folds(path), read_clips(columns)
    if matched(fold_of, [clip.id for clip in clips], "--splits_file"):
        return None
    return (
        f"--splits_file: {Path(path).name} is of another corpus and is not applied: it names {next(iter(fold_of))} "
        f"and none of the clips here, such as {clips[0].id}."
    )


def frozen_folds_of(clips: Iterable[Clip], path: str, num_folds: int) -> tuple[list[int], list[str]]:
    """The fold of each clip in a file of frozen folds, and notes for the reader.

    Raises:
        ValueError: The file holds no frozen folds, was changed, has another number of folds, or lacks a clip.
    """
    fold_of, clips = _read_folds(path), list(clips)
    if (held := max(fold_of.values()) + 1) != num_folds:
        raise ValueError(f"--num_folds {num_folds}: {path} holds {held} folds.")
    id_of = {i: name for name, i in matched(fold_of, [clip.id for clip in clips], "--splits_file").items()}
    unknown = [clip.id for clip in clips if clip.id not in id_of]
    if unknown:
        raise ValueError(
            f"--splits_file: {path} lacks {len(unknown)} of {len(clips)} clips ({listed(unknown, 3)}) and has the "
            "others. Give the corpus that it was made for, or --splits_file '' to make new folds."
        )
    absent = sorted(set(fold_of) - set(id_of.values()))
    notes = [
        f"{len(absent)} of the {len(fold_of)} clips of the frozen folds are not in the corpus ({listed(absent, 3)})."
    ]
    return [fold_of[id_of[clip.id]] for clip in clips], notes if absent else []


def read_frozen(path: Path) -> list[Clip] | None:
    """The clips of a file of frozen folds, each with its fold as its part ("fold 0"); None for another file.

    Raises:
        ValueError: The file was changed after it was written.
    """
    content = read_json(path, remedy=_REMEDY) if path.suffix == ".json" and not is_json_array(path) else {}
    if "folds" not in content:
        return None
    return [_with_name(Clip(i, split=f"fold {fold}")) for i, fold in _checked_folds(content, path).items()]


def split_paths(spec: str, protocol: str = "given") -> list[Path]:
    """The files that `spec` means: one file, several with commas between, or those in a folder.

    A folder must hold one file for train, one for test and at most one for dev, told by the words in their names.

    Raises:
        ValueError, FileNotFoundError: A file is missing, or a folder holds none or several of a part.
    """
    paths = [as_on_disk(Path(name.strip()).expanduser()) for name in spec.split(",") if name.strip()]
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        raise FileNotFoundError(f"{listed(missing) or repr(spec)}: there is no such split file.")
    if odd := [path for path in paths if not path.is_file() and (len(paths) > 1 or not path.is_dir())]:
        raise ValueError(f"{odd[0]}: is no regular file but a folder, a pipe or a device; give files of a split.")
    if paths[0].is_file():
        return paths
    found: dict[str, list[Path]] = {part: [] for part in SPLITS}
    for path in sorted(paths[0].glob(_PATTERNS[protocol])):
        if path.suffix in (".csv", ".tsv", ".jsonl") and (part := _part_of_name(path)):
            found[part].append(path)
    if any(len(found[part]) != 1 for part in (TRAIN, TEST)) or len(found[DEV]) > 1:
        names = {part: [path.name for path in own] for part, own in found.items()}
        raise ValueError(
            f"{spec} must hold one split file for each part; it holds {names}. Name the files, with commas between."
        )
    return [own[0] for own in found.values() if own]


def read_split_file(path: Path) -> list[Clip]:
    """Reads one file of a split, entry by entry; a name may occur in it more than once.

    The part is read from the column `split`, else from the file's name (`..._train_...`). Without a column for the
    speaker, the file names of ShEMO, EMO-DB and RAVDESS tell who speaks; for others the speaker stays None.

    Raises:
        ValueError: The file has none of the known formats, or names no part.
    """
    if path.suffix == ".json" and not is_json_array(path):
        rows = _our_rows(read_json(path, remedy=_REMEDY), path)
    elif path.suffix in (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xlsx") or path.name == HEADER:
        rows = [row for _, row in read_rows(path)]
    else:
        raise ValueError(f"{path}: splits are read from .json, .jsonl, .csv, .tsv, .parquet, .xlsx and {HEADER}.")
    if not rows:
        raise ValueError(f"{path}: is empty.")
    named = {name.lower(): name for row in rows for name in row}
    first = {kind: next((name for name in names if name in named), None) for kind, names in _COLUMNS.items()}
    own = {kind: named[name] for kind, name in first.items() if name}
    if "id" not in own:
        raise ValueError(
            f"{path}: has no column for the clip ({', '.join(_COLUMNS['id'])}): {', '.join(named.values())}."
        )
    default = _part_of_name(path)
    if "split" not in own and default is None:
        raise ValueError(f"{path}: no column 'split', and its name says none of train, dev, val and test.")
    try:
        return [_clip(row, own, default) for row in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _clip(row: Mapping[str, Any], columns: Mapping[str, str], part: str | None) -> Clip:
    read = {kind: (speaker_cell if kind == "speaker" else cell) for kind in columns}
    cells: dict[str, Any] = {kind: read[kind](row.get(name)) for kind, name in columns.items()}
    if cells["id"] is None:
        raise ValueError(f"a row names no clip: {dict(row)}")
    cells["split"] = split_word(cells.get("split")) or part
    segment = segment_of({kind: cells.pop(kind, None) for kind in ("start", "end", "duration")})
    file = plain_name(cells.pop("file", None) or cells["id"])
    clip = _with_name(Clip(**{kind: value for kind, value in cells.items() if value is not None}))
    if columns["id"].lower() != "id":
        clip = replace(clip, id=plain_name(clip.id) + (segment.suffix() if segment else ""))
    return replace(clip, file=file, segment=segment) if segment else clip


def _with_name(clip: Clip) -> Clip:
    """Adds the speaker, gender and label that a file name tells, where the table does not."""
    grammar = next((found for found in (name.fullmatch(stem(clip.id)) for name in _NAMES) if found), None)
    if grammar is None:
        return clip
    known = grammar.groupdict()
    gender = {"F": "female", "M": "male"}.get(known.get("gender") or "")
    label = LETTERS.get(known.get("letter") or "", ALL_CLIPS) if clip.emotion == ALL_CLIPS else clip.emotion
    return replace(clip, speaker=clip.speaker or known["speaker"], gender=clip.gender or gender, emotion=label)


def _read_folds(path: str) -> dict[str, int]:
    """Fold of each id in a file of frozen folds."""
    content = read_json(path, remedy=_REMEDY)
    if "folds" not in content:
        raise ValueError(f"--splits_file: {path} holds no frozen folds; with --protocol given it may be a split.")
    return _checked_folds(content, path)


def _checked_folds(content: Mapping[str, Any], path: str | Path) -> dict[str, int]:
    """Fold of each id.

    Raises:
        ValueError: The folds are no lists of ids, or the hash is not that of the folds.
    """
    folds = content["folds"]
    for fold, ids in enumerate(folds if isinstance(folds, list) else [folds]):
        check_texts(ids, f"{path}: `folds[{fold}]`")
    fold_of = {i: fold for fold, ids in enumerate(content["folds"]) for i in ids}
    if fold_hash(fold_of) != content.get("sha256"):
        raise ValueError(f"{path}: was changed after it was written: its hash is not that of its folds. Get it again.")
    return fold_of


def _our_rows(content: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The entries of a `splits.json`, each with its columns in the table of clips."""
    if not all(part in content for part in SPLITS):
        raise ValueError(f"{path}: is not a split: it lacks the lists {', '.join(SPLITS)}.")
    for part in SPLITS:
        check_texts(content[part], f"{path}: `{part}`")
    table = content.get("clips", [])
    for number, row in enumerate(table if isinstance(table, list) else [table]):
        if not isinstance(row, list) or len(row) != 5 or not is_text(row[0]):
            raise ValueError(f"{path}: `clips[{number}]` is {str(row)[:40]!r}, expected a list of an id and 4 values.")
    known = {
        i: {"speaker": speaker, "gender": gender, "emotion": emotion, "recording": recording}
        for i, speaker, gender, emotion, recording in table
    }
    return [{"id": i, "split": part, **known.get(i, {})} for part in SPLITS for i in content[part]]


def check_texts(value: Any, key: str) -> None:
    """Checks that a value of a JSON file is a list of texts, such as ids.

    Raises:
        ValueError: It is not; the message begins with `key`.
    """
    if not isinstance(value, list):
        raise ValueError(f"{key} is {str(value)[:40]!r}, expected a list of ids; {_REMEDY}.")
    for item in value:
        if not is_text(item):
            raise ValueError(f"{key} holds {str(item)[:40]!r}, expected text; {_REMEDY}.")


def _part_of_name(path: Path) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", path.stem.lower()) if word]
    parts = {DEV if word.startswith("val") else word for word in words} & set(SPLITS)
    return parts.pop() if len(parts) == 1 else None

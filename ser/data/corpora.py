"""One small function a corpus: from a folder or a manifest to a list of labelled recordings."""

import csv
import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ser.clip_names import shortest_ids
from ser.data import shemo, synthetic
from ser.data.arguments import DataArguments, closest
from ser.data.clips import listed, split_word
from ser.data.sources import (
    MEDIA_SUFFIXES,
    SOUND_SUFFIXES,
    Corpus,
    Recording,
    by_id,
    check_label_map,
    find_audio,
    finished,
    folder_of,
    named_recordings,
)
from ser.names import cell, speaker_cell, tidy


def list_corpus(args: DataArguments) -> Corpus:
    """Lists the recordings of the corpus that `args` names, with labels merged and dropped as `--label_map` says.

    Raises:
        ValueError, FileNotFoundError: A flag is missing or does not fit, or there is no recording. Files that cannot
            be used come back as recordings with a `problem`.
    """
    corpora = {
        "shemo": shemo.shemo,
        "emodb": emodb,
        "ravdess": ravdess,
        "manifest": manifest,
        "folder": folder,
        "synthetic": synthetic.synthetic,
    }
    corpus = finished(corpora[args.corpus](args), args)
    if len(corpus.labels) < 2 and not corpus.target_columns:
        found = f"only the label {corpus.labels[0]!r}" if corpus.labels else "no label"
        raise ValueError(f"{args.corpus}: there is {found}, and a classifier needs two; look at the data, --label_map.")
    return corpus


# -------------------------------------------------------------------------------------------------------- EMO-DB
_EMODB_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<letter>[WLEAFTN])(?P<version>[a-z])")
_EMODB_LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_EMODB_WOMEN = frozenset(("08", "09", "13", "14", "16"))
_EMODB_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def emodb(args: DataArguments) -> Corpus:
    """The Berlin Database of Emotional Speech: `03a01Fa.wav` is speaker 03, text a01, happiness, version a."""
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _EMODB_NAME.fullmatch(stem)
        return name and {
            "emotion": _EMODB_LETTERS[name["letter"]],
            "speaker": name["speaker"],
            "gender": "female" if name["speaker"] in _EMODB_WOMEN else "male",
            "transcript": _EMODB_TEXTS.get(name["text"]),
        }

    grammar = "03a01Fa.wav: speaker, text, one of WLEAFTN, version"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "EMO-DB",
        "label_source": "filename",
        "licence": "CC BY 4.0",
        "language": "de",
        "homepage": "http://emodb.bilderbar.info",
        "citation": "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: A Database of German Emotional "
        "Speech. Interspeech 2005.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_EMODB_LETTERS.values())), root)


# ------------------------------------------------------------------------------------------------------- RAVDESS
_RAVDESS_NAME = re.compile(
    r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<statement>0[12])-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])"
)
_RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_RAVDESS_TEXTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def ravdess(args: DataArguments) -> Corpus:
    """RAVDESS speech: `03-01-06-01-02-01-12.wav` is audio, speech, fear, normal, second sentence, first take, actor 12.

    Actors of an even number are women. The songs of the same actors are left out.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _RAVDESS_NAME.fullmatch(stem)
        return name and {
            "emotion": _RAVDESS_EMOTIONS[name["emotion"]],
            "speaker": name["actor"],
            "gender": "male" if int(name["actor"]) % 2 else "female",
            "transcript": _RAVDESS_TEXTS[name["statement"]],
        }

    found = find_audio(root)
    paths = [path for path in found if not Path(path).name.startswith("03-02-")]
    if not paths:
        raise FileNotFoundError(f"--data_dir: {str(root)!r} holds songs only (03-02-...); give RAVDESS's speech.")
    grammar = "03-01-06-01-02-01-12.wav: seven numbers, audio only"
    recordings, notes = named_recordings(root, paths, described, grammar)
    facts = {
        "name": "RAVDESS",
        "label_source": "filename",
        "licence": "CC BY-NC-SA 4.0",
        "language": "en",
        "homepage": "https://zenodo.org/record/1188976",
        "citation": "S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song "
        "(RAVDESS). PLoS ONE 13(5), 2018.",
        "notes": notes + [f"{len(found) - len(paths)} songs are left out."] * (len(paths) < len(found)),
    }
    return Corpus(facts, recordings, tuple(sorted(_RAVDESS_EMOTIONS.values())), root)


# -------------------------------------------------------------------------------------------- the user's own clips
_COLUMNS = ("id", "path", "label", "speaker", "gender", "split", "transcript", "ipa")
_MADE_COLUMNS = ("emotion", "duration", "source_sampling_rate", "audio")
# Any other word counts as not known.
_GENDERS = {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male"}


def folder(args: DataArguments) -> Corpus:
    """One folder a label below `--data_dir`, with audio at any depth; who speaks is not known."""
    root, recordings = folder_of(args), []
    for path in find_audio(root, SOUND_SUFFIXES + MEDIA_SUFFIXES):
        label = cell(Path(path).parts[0])
        if len(Path(path).parts) == 1:
            recordings.append(Recording(path, path, problem="lies beside the folders of the labels, in none of them"))
        elif label is None:
            recordings.append(Recording(path, path, problem="lies in a folder whose name means no label; rename it"))
        else:
            recordings.append(Recording(tidy(Path(path).with_suffix("").as_posix()), path, emotion=label))
    return _own_corpus(args, root, recordings)


def manifest(args: DataArguments) -> Corpus:
    """Clips of a CSV or JSONL file: `path`, `label`, and `id`, `speaker`, `gender`, `split`, `transcript` if known.

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
    columns = {name for _, row in rows for name in row}
    for name in ("path", *(targets or ["label"])):
        if name not in columns:
            raise ValueError(
                f"{source}: has no column {name!r}, only {listed(sorted(columns))}; rename it." + closest(name, columns)
            )
    ids = shortest_ids(row["path"] for _, row in rows if Path(row.get("path", "")).is_absolute())
    rows = [(where, {"id": ids.get(row.get("path")), **row}) for where, row in rows]
    recordings = [_row_recording(row, where, targets, "label" in columns) for where, row in rows]
    corpus = _own_corpus(args, root, recordings)
    return replace(corpus, target_columns=tuple(targets), has_split="split" in columns)


def _rows(source: Path) -> list[tuple[str, dict[str, str]]]:
    """Reads a manifest into `(line number in words, cells as text)`; empty cells are left out."""
    with open(source, encoding="utf-8-sig", newline="") as file:
        if source.suffix.lower() in (".jsonl", ".json", ".ndjson"):
            lines = [(number, line) for number, line in enumerate(file, start=1) if line.strip()]
            rows = [(f"line {number}", _json_row(source, number, line)) for number, line in lines]
        else:
            reader = csv.DictReader(file)
            rows = [(f"line {reader.line_num}", row) for row in reader]
    if not rows:
        raise ValueError(f"{source}: holds no clip.")
    for where, row in rows:
        if None in row:
            raise ValueError(f"{source}: {where} has more cells than the header; put a cell with a comma in quotes.")
    return [(where, _cells(row)) for where, row in rows]


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
        gender=_GENDERS.get(row.get("gender", "").lower()),
        transcript=row.get("transcript"),
        ipa=row.get("ipa"),
        split=split,
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


def _own_corpus(args: DataArguments, root: Path, recordings: Iterable[Recording]) -> Corpus:
    """Gives the user's clips unique ids and their own labels."""
    taken: dict[str, str] = {}
    unique = []
    for recording in recordings:
        if recording.id in taken:
            same = "twice" if recording.path == taken[recording.id] else f"like {taken[recording.id]}"
            problem = recording.problem or f"is named {same}; name each file once, or give a column id"
            recording = replace(recording, problem=problem)
        taken.setdefault(recording.id, recording.path)
        unique.append(recording)
    found = [r.emotion for r in unique if r.emotion is not None and not r.problem]
    check_label_map(found, args)
    name = Path(args.manifest).stem if args.corpus == "manifest" else root.resolve().name
    facts = {"name": name, "label_source": args.corpus}
    return Corpus(facts, by_id(unique), tuple(sorted(set(found))), root)

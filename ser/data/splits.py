"""Splits of a corpus into train, dev and test: by speakers unless the user asks for something else."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ser.data.clips import DEV, SPLITS, TEST, TRAIN, Clip, classes_of, counted, listed, read_clips
from ser.data.copies import Copies, copies_of
from ser.data.folds import corpora_of, fewer_folds, groups_of, random_folds, speaker_folds, with_dev
from ser.data.leaks import Parts, clips_in_two_parts, near_recordings, shared_recordings, shared_speakers, speaker_leaks
from ser.data.split_files import check_texts, frozen_folds_of, given_parts, unused_splits_file
from ser.files import read_json, write_json_rows

ACCEPT, ACCEPT_NEAR = "--accept_speaker_leakage true", "--accept_near_copies true"
PUBLISHED = ("emobox_fold_1", "nkululeko")
_NAME_SPEAKERS = "Name them in a table: --corpus manifest --manifest clips.csv, with the columns path,label,speaker"
# One fold for each value of a column.
LEAVE_ONE_OUT = {
    "leave_one_speaker_out": "speaker",
    "leave_one_session_out": "session",
    "leave_one_corpus_out": "corpus",
    "train_on_one_corpus": "corpus",
}
_WITHOUT_DEV = ("random_holdout", "leave_one_corpus_out")
# "random_holdout" tests one fold of this many.
_HOLDOUT_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Which clip is in which part of one fold.

    Attributes:
        protocol: The name of the protocol that made it.
        fold: Number of the fold that is test, from 0.
        seed: Seed of the shuffling.
        speaker_independent: Whether every clip names its speaker and no speaker is in two parts.
        train: Sorted ids; likewise `dev` and `test`.
        sha256: Hash over the ids and the part each is in; see [`split_hash`].
        notes: What a reader of results must know about how the parts were made.
    """

    protocol: str
    fold: int
    seed: int
    speaker_independent: bool
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The ids by part: `{"train": ..., "dev": ..., "test": ...}`."""
        return {part: getattr(self, part) for part in SPLITS}


def make_split(
    columns: Mapping[str, list] | Any,
    protocol: str = "speaker_kfold",
    fold: int = 0,
    num_folds: int = 5,
    seed: int = 42,
    splits_file: str | None = None,
) -> Split:
    """Splits a corpus. The same clips and seed give the same split in any order of the rows.

    - "speaker_kfold": speakers in `num_folds` folds, labels and genders spread evenly (see `folds.speaker_folds`), or
      the frozen folds of `splits_file`, if they know a clip. One fold is test, the next one dev. A corpus without
      speakers gets "random_kfold", under that name, which [`check_split`] refuses unless leakage is accepted.
    - "leave_one_speaker_out", "leave_one_session_out": one speaker or session is test, the next one dev.
    - "leave_one_corpus_out": one corpus is test; "train_on_one_corpus": one is train, all others are test.
    - "random_kfold", "random_holdout" (a fifth is test): clips at random within label and gender, whoever speaks.
    - "given": the corpus's own column `split`, or `splits_file`.
    - "emobox_fold_1", "nkululeko": as published, from `splits_file`.

    Where a protocol names no dev, a tenth of train becomes dev, and `notes` says so: whole speakers where two or more
    are known and the protocol is not random.

    Args:
        columns: A `datasets.Dataset` or a dict of lists: `id`, `speaker`, `gender`, `emotion` (see `read_clips`).
        protocol: One of the above.
        fold: Number of the fold, from 0.
        num_folds: Number of folds of the two k-fold protocols, 3 or more; at most the number of speakers.
        seed: Seed of the shuffling.
        splits_file: A file, several with commas between, or their folder.

    Raises:
        ValueError, FileNotFoundError: The fold is out of range, a class has no clip in train, or the corpus or a file
            lacks what the protocol needs.
    """
    clips = read_clips(columns)
    if unused := unused_splits_file(columns, protocol, splits_file):
        splits_file = None
    if protocol == "speaker_kfold" and not splits_file and not any(clip.speaker for clip in clips):
        protocol = "random_kfold"
    total = num_folds_of(protocol, columns, num_folds)
    if not 0 <= fold < total:
        raise ValueError(f"--fold {fold}: protocol {protocol} has the folds 0 to {total - 1} here.")
    if protocol in (*PUBLISHED, "given"):
        part_of, notes = given_parts(clips, splits_file, protocol)
    elif splits_file and protocol != "speaker_kfold":
        raise ValueError(f"--splits_file: protocol {protocol} reads no file; give --splits_file '' to use none.")
    else:
        folds, notes = _folds(clips, protocol, num_folds if splits_file else total, seed, splits_file)
        notes += fewer_folds(total, num_folds) if protocol == "speaker_kfold" else []
        names = _parts_of_folds(protocol, fold, total)
        part_of = {clip.id: names.get(number, TRAIN) for clip, number in zip(clips, folds, strict=True)}
    parts = {part: [clip for clip in clips if part_of.get(clip.id) == part] for part in SPLITS}
    parts, more = with_dev(parts, protocol, seed)
    notes = [*([unused] if unused else []), *notes, *more, *_left_out(clips, parts)]
    train, dev, test = (tuple(clip.id for clip in parts[part]) for part in SPLITS)
    split = Split(protocol, fold, seed, False, train, dev, test, sha256="", notes=tuple(notes))
    _check_classes(split, clips, classes_of(columns))
    named = all(clip.speaker for own in parts.values() for clip in own)
    independent = named and not shared_speakers(split.parts, clips)
    return replace(split, speaker_independent=independent, sha256=split_hash(split))


def num_folds_of(protocol: str, columns: Mapping[str, list] | Any, num_folds: int = 5) -> int:
    """How many folds a protocol has on a corpus: what `--fold all` trains.

    Raises:
        ValueError: There are fewer than 3 folds, or fewer than 2 corpora.
    """
    if protocol in (*PUBLISHED, "given", "random_holdout"):
        return 1
    if protocol not in ("speaker_kfold", "random_kfold", *LEAVE_ONE_OUT):
        raise ValueError(f"--protocol {protocol}: there is no such protocol.")
    kind = LEAVE_ONE_OUT.get(protocol)
    total = len(groups_of(read_clips(columns), kind)) if kind else num_folds
    if protocol == "speaker_kfold":
        speakers = {clip.speaker for clip in read_clips(columns)}
        total = min(total, len(speakers)) if None not in speakers and len(speakers) >= 3 else total
    if kind == "corpus" and total == 1:
        raise ValueError(f"--protocol {protocol}: all clips are of one corpus; list two or more in --corpora.")
    if total < 3 and kind != "corpus":
        what = f"the corpus has {counted(total, kind)}" if kind else f"--num_folds {total}"
        raise ValueError(f"--protocol {protocol}: {what}; it needs 3 or more: one is test, one dev, the rest train.")
    return total


def check_split(
    split: Split,
    columns: Mapping[str, list] | Any,
    accept_speaker_leakage: bool = False,
    accept_near_copies: bool = False,
) -> None:
    """Refuses a split in which a clip, a recording or, unless that is accepted, a speaker is in two parts.

    Recordings are compared by their samples and by fingerprints, see `copies_of`. A published split may hold
    copies, because it must be reproduced as it is; `what_is_wrong` then reports them.

    Args:
        split: What [`make_split`] or [`load_split`] returned.
        columns: The corpus, as for `make_split`.
        accept_speaker_leakage: Accept shared and unknown speakers.
        accept_near_copies: Accept clips that only the fingerprint takes for one recording.

    Raises:
        ValueError: See above; or the split names a clip that the corpus lacks.
    """
    clips = read_clips(columns)
    known = {clip.id for clip in clips}
    unknown = [i for ids in split.parts.values() for i in ids if i not in known]
    if unknown:
        raise ValueError(f"The split names {len(unknown)} clips that the corpus lacks ({listed(unknown, 5)}).")
    twice = clips_in_two_parts(split.parts)
    if twice:
        raise ValueError(f"{len(twice)} clips are in two splits ({listed(twice, 5)}); put each in one.")
    if not accept_speaker_leakage:
        _refuse_leakage(split, clips)
    if split.protocol not in PUBLISHED:
        _refuse_copies(split, copies_of(columns), accept_near_copies)


def clips_per_class(parts: Parts, clips: Sequence[Clip], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Number of clips of each class in each part: `{"train": {"anger": 700, ...}, ...}`."""
    label_of = {clip.id: clip.emotion for clip in clips}
    counts = {part: Counter(label_of.get(i) for i in ids) for part, ids in parts.items()}
    return {part: {label: count[label] for label in classes} for part, count in counts.items()}


def split_hash(split: Split) -> str:
    """SHA-256 of the compact JSON `{"dev": [...], "test": [...], "train": [...]}`, ids sorted, in UTF-8."""
    parts = {part: sorted(ids) for part, ids in split.parts.items()}
    content = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def save_split(split: Split, path: str | Path, columns: Mapping[str, list] | Any = None) -> None:
    """Writes `splits.json`, whole or not at all.

    With `columns`, it also holds the clips of each class in each part, and what is known of each clip (id, speaker,
    gender, label, hash of the recording), so that `ser audit` needs nothing else.
    """
    content = {"format": 1} | asdict(split)
    if columns is not None:
        clips = read_clips(columns)
        content["clips_per_class"] = clips_per_class(split.parts, clips, classes_of(columns))
        used, hashes = {i for ids in split.parts.values() for i in ids}, copies_of(columns).hashes
        content["clips"] = [
            [clip.id, clip.speaker, clip.gender, clip.emotion, hashes.get(clip.id)] for clip in clips if clip.id in used
        ]
    write_json_rows(content, path)


def load_split(path: str | Path) -> Split:
    """Reads what [`save_split`] wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a split, or its hash is not that of its ids: somebody changed it.
    """
    content = read_json(path, remedy="make the split again, or get the file again")
    if absent := [field.name for field in fields(Split) if field.name not in content]:
        raise ValueError(f"{path}: is not a splits.json: it lacks {', '.join(absent)}.")
    for name in (*SPLITS, "notes"):
        check_texts(content[name], f"{path}: `{name}`")
    content |= {name: tuple(content[name]) for name in (*SPLITS, "notes")}
    split = Split(**{field.name: content[field.name] for field in fields(Split)})
    if split_hash(split) != split.sha256:
        raise ValueError(
            f"{path}: its ids have the hash {split_hash(split)}, it says {split.sha256!r}: it was changed after it was "
            "written. Make the split again, or get the file again."
        )
    return split


def _folds(
    clips: list[Clip], protocol: str, num_folds: int, seed: int, splits_file: str | None
) -> tuple[list[int], list[str]]:
    """Number of the fold of each clip, and notes."""
    if splits_file:
        return frozen_folds_of(clips, splits_file, num_folds)
    if protocol == "speaker_kfold":
        return speaker_folds(clips, num_folds, seed, corpora_of(clips)), []
    if kind := LEAVE_ONE_OUT.get(protocol):
        number_of = {name: number for number, name in enumerate(groups_of(clips, kind))}
        return [number_of[getattr(clip, kind)] for clip in clips], []
    return random_folds(clips, _HOLDOUT_FOLDS if protocol == "random_holdout" else num_folds, seed), []


def _parts_of_folds(protocol: str, fold: int, total: int) -> dict[int, str]:
    """Which folds are test and dev; the others are train."""
    if protocol == "train_on_one_corpus":
        return {number: TEST for number in range(total) if number != fold}
    return {fold: TEST} | ({} if protocol in _WITHOUT_DEV else {(fold + 1) % total: DEV})


def _left_out(clips: Sequence[Clip], parts: Mapping[str, list[Clip]]) -> list[str]:
    count = len(clips) - sum(len(own) for own in parts.values())
    return [f"{count} of the corpus's {len(clips)} clips are in no part of the split."] if count else []


def _check_classes(split: Split, clips: Sequence[Clip], classes: Sequence[str]) -> None:
    train = clips_per_class(split.parts, clips, classes)[TRAIN]
    absent = [label for label in classes if not train[label]]
    if absent:
        label_map = json.dumps(dict.fromkeys(absent), ensure_ascii=False)
        raise ValueError(
            f"Fold {split.fold} of {split.protocol}: train holds no clip of {', '.join(absent)}, so no model can "
            f"learn it. Drop it with --label_map '{label_map}', or use another protocol, fold or seed."
        )


def _refuse_leakage(split: Split, clips: Sequence[Clip]) -> None:
    used = {i for ids in split.parts.values() for i in ids}
    nameless = sum(clip.speaker is None for clip in clips if clip.id in used)
    shared = speaker_leaks(split.parts, clips)
    if not shared and not nameless:
        return
    unknown = f"{nameless} of {len(used)} clips name no speaker, so one speaker may be in train and in test."
    remedy = "Split by speakers (--protocol speaker_kfold)" if shared else _NAME_SPEAKERS
    raise ValueError(
        f"Protocol {split.protocol}: {shared[0] if shared else unknown} A model recognises voices of train, so its "
        f"score says little about new ones. {remedy}, or accept it with {ACCEPT}; results then say speaker-dependent."
    )


def _refuse_copies(split: Split, copies: Copies, accept_near_copies: bool) -> None:
    identical = shared_recordings(split.parts, copies.hashes)
    near = [] if accept_near_copies else near_recordings(split.parts, copies.near or ())
    if not identical and not near:
        return
    named = (f"{pair.first} in {pair.first_part} = {pair.second} in {pair.second_part}" for pair in identical or near)
    alike = (
        ""
        if identical
        else f" They sound the same to a fingerprint; if they are different recordings, give {ACCEPT_NEAR}."
    )
    raise ValueError(
        f"Protocol {split.protocol}: {len(identical or near)} recordings are in two parts under two names "
        f"({listed(named, 5)}). Leave one of each pair out of the corpus.{alike}"
    )

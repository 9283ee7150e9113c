"""Splits of a corpus into train, dev and test: by speakers unless one asks otherwise in so many words."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .clips import DEV, SPLITS, TEST, TRAIN, Clip, classes_of, clips_of, listed

ACCEPT = "--accept_speaker_leakage true"
FORMAT = 1
# Share of the training clips that becomes dev where a protocol names none.
_DEV_PARTS = 10


@dataclass(frozen=True)
class Split:
    """Which clip is in which part of one fold.

    Args:
        protocol: The name of the protocol that made it.
        fold: Number of the fold, from 0.
        seed: Seed of the shuffling.
        speaker_independent: Whether every clip names its speaker and no speaker is in two parts.
        train, dev, test: Sorted ids.
        sha256: Hash over the ids and the part each is in; see [`split_hash`].
    """

    protocol: str
    fold: int
    seed: int
    speaker_independent: bool
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    sha256: str


def make_split(
    columns: Mapping[str, list] | Any,
    protocol: str = "speaker_kfold",
    fold: int = 0,
    num_folds: int = 5,
    seed: int = 42,
    splits_file: str | None = None,
) -> Split:
    """Splits a corpus. The same ids, labels, speakers and seed give the same split in any order of rows.

    A corpus that names no speaker cannot be split by speakers: "speaker_kfold" then makes random folds, under
    the name "random_kfold", which [`check_split`] lets pass only with `accept_speaker_leakage`.

    Args:
        columns: A `datasets.Dataset` or a dict of lists: `id`, `speaker`, `gender`, `emotion` (see `clips_of`).
        protocol: One of "speaker_kfold", "leave_one_speaker_out", "random_kfold", "random_holdout", "given".
        fold: The fold that is test, from 0; the next one is dev.
        num_folds: Number of folds of the two k-fold protocols, 3 or more.
        seed: Seed of the shuffling.
        splits_file: For "given": the file that holds the split.

    Raises:
        ValueError: The protocol is unknown, the fold is out of range, a class has no clip in train, or the
            corpus lacks what the protocol needs.
    """
    clips = clips_of(columns)
    if protocol == "speaker_kfold" and not any(clip.speaker for clip in clips):
        protocol = "random_kfold"
    total = num_folds_of(protocol, columns, num_folds)
    if not 0 <= fold < total:
        raise ValueError(f"--fold {fold}: protocol {protocol} has the folds 0 to {total - 1}.")
    parts = _parts(clips, protocol, fold, num_folds, seed)
    split = Split(protocol, fold, seed, False, *(tuple(sorted(parts[name])) for name in SPLITS), sha256="")
    _check_classes(split, clips, classes_of(columns))
    independent = all(clip.speaker for clip in clips) and not shared_speakers(split, clips)
    return replace(split, speaker_independent=independent, sha256=split_hash(split))


def num_folds_of(protocol: str, columns: Mapping[str, list] | Any, num_folds: int = 5) -> int:
    """How many folds a protocol has on a corpus, which is what `--fold all` trains."""
    if protocol == "leave_one_speaker_out":
        return len(_speakers(clips_of(columns)))
    return num_folds if protocol in ("speaker_kfold", "random_kfold") else 1


def _parts(clips: list[Clip], protocol: str, fold: int, num_folds: int, seed: int) -> dict[str, list[str]]:
    if protocol == "given":
        return _with_dev({name: [clip for clip in clips if clip.split == name] for name in SPLITS}, seed)
    if protocol == "random_holdout":
        folds = _folds(clips, 5, seed, by_speaker=False)
        held = {
            TRAIN: [clip for clip, number in zip(clips, folds, strict=True) if number != 0],
            DEV: [],
            TEST: [clip for clip, number in zip(clips, folds, strict=True) if number == 0],
        }
        return _with_dev(held, seed, by_speaker=False)
    if protocol == "leave_one_speaker_out":
        speakers = _speakers(clips)
        folds, num_folds = [speakers.index(clip.speaker) for clip in clips], len(speakers)
    elif protocol in ("speaker_kfold", "random_kfold"):
        folds = _folds(clips, num_folds, seed, by_speaker=protocol == "speaker_kfold")
    else:
        raise ValueError(
            f"--protocol {protocol}: expected speaker_kfold, leave_one_speaker_out, random_kfold, "
            "random_holdout or given."
        )
    if num_folds < 3:
        raise ValueError(f"--num_folds {num_folds}: one fold is test and one dev, so at least 3 are needed.")
    names = {fold: TEST, (fold + 1) % num_folds: DEV}
    parts = {name: [] for name in SPLITS}
    for clip, number in zip(clips, folds, strict=True):
        parts[names.get(number, TRAIN)].append(clip.id)
    return parts


def _speakers(clips: Sequence[Clip]) -> list[str]:
    nameless = [clip.id for clip in clips if clip.speaker is None]
    if nameless:
        raise ValueError(
            f"Column 'speaker': {len(nameless)} of {len(clips)} clips name no speaker ({listed(nameless, 3)}); "
            "they cannot be split by speakers. Add the speakers, or use --protocol random_kfold with "
            f"{ACCEPT}."
        )
    return sorted({clip.speaker for clip in clips})


def _folds(clips: Sequence[Clip], num_folds: int, seed: int, by_speaker: bool) -> list[int]:
    """Number of the fold of each clip; label and gender are spread evenly, speakers kept whole if asked."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = [clip.speaker for clip in clips] if by_speaker else None
    if by_speaker and len(_speakers(clips)) < num_folds:
        raise ValueError(
            f"--num_folds {num_folds}: the corpus has {len(_speakers(clips))} speakers; each fold needs one."
        )
    if len(clips) < num_folds:
        raise ValueError(f"--num_folds {num_folds}: the corpus has {len(clips)} clips.")
    kind = StratifiedGroupKFold if by_speaker else StratifiedKFold
    strata = [f"{clip.emotion} {clip.gender}" for clip in clips]
    if max(Counter(strata).values()) < num_folds:
        strata = [""] * len(clips)
    folds = np.zeros(len(clips), dtype=int)
    with warnings.catch_warnings():
        # A class with fewer clips than folds; what that costs is in the split's table of clips per class.
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = kind(num_folds, shuffle=True, random_state=seed)
        for number, (_, held) in enumerate(splitter.split(strata, strata, groups)):
            folds[held] = number
    return folds.tolist()


def _with_dev(parts: dict[str, list[Clip]], seed: int, by_speaker: bool = True) -> dict[str, list[str]]:
    """Ids of the parts; where there is no dev, a tenth of train becomes dev, by speakers if possible."""
    missing = [name for name in (TRAIN, TEST) if not parts[name]]
    if missing:
        raise ValueError(f"--protocol given: no clip is in {' or '.join(missing)}; check the column 'split'.")
    train, dev = parts[TRAIN], parts[DEV]
    if not dev:
        speakers = {clip.speaker for clip in train}
        by_speaker = by_speaker and None not in speakers and len(speakers) >= 3
        folds = _folds(train, min(_DEV_PARTS, len(speakers)) if by_speaker else _DEV_PARTS, seed, by_speaker)
        dev = [clip for clip, number in zip(train, folds, strict=True) if number == 0]
        train = [clip for clip, number in zip(train, folds, strict=True) if number != 0]
    return {
        name: [clip.id for clip in clips] for name, clips in ((TRAIN, train), (DEV, dev), (TEST, parts[TEST]))
    }


def shared_speakers(split: Split, clips: Sequence[Clip]) -> dict[tuple[str, str], list[str]]:
    """The speakers that two parts share, by the pair of parts; empty where no pair shares one."""
    speaker_of = {clip.id: clip.speaker for clip in clips}
    heard = {name: {speaker_of[i] for i in getattr(split, name)} - {None} for name in SPLITS}
    pairs = ((TRAIN, TEST), (TRAIN, DEV), (DEV, TEST))
    return {(a, b): sorted(heard[a] & heard[b]) for a, b in pairs if heard[a] & heard[b]}


def clips_per_class(split: Split, clips: Sequence[Clip], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Number of clips of each class in each part: `{"train": {"anger": 700, ...}, ...}`."""
    label_of = {clip.id: clip.emotion for clip in clips}
    counts = {name: Counter(label_of[i] for i in getattr(split, name)) for name in SPLITS}
    return {name: {label: counts[name][label] for label in classes} for name in SPLITS}


def _check_classes(split: Split, clips: Sequence[Clip], classes: Sequence[str]) -> None:
    train = clips_per_class(split, clips, classes)[TRAIN]
    absent = [label for label in classes if not train[label]]
    if absent:
        raise ValueError(
            f"Fold {split.fold} of {split.protocol}: no clip of {', '.join(absent)} is in train, so no model can "
            "learn it. Drop the class with --label_map '{\"" + absent[0] + "\": null}', or use other folds."
        )


def check_split(
    split: Split, columns: Mapping[str, list] | Any, accept_speaker_leakage: bool = False
) -> None:
    """Refuses a split in which a speaker or a recording is in two parts.

    Args:
        split: What [`make_split`] or [`load_split`] returned.
        columns: The corpus, as for `make_split`.
        accept_speaker_leakage: Lets shared or unknown speakers pass.

    Raises:
        ValueError: A clip or a recording is in two parts, or a speaker is and that was not accepted.
    """
    clips = clips_of(columns)
    known = {clip.id for clip in clips}
    ids = [i for name in SPLITS for i in getattr(split, name)]
    unknown = [i for i in ids if i not in known]
    if unknown:
        raise ValueError(f"The split names {len(unknown)} clips that the corpus lacks: {listed(unknown)}.")
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} clips are in two splits: {listed(twice)}.")
    if not accept_speaker_leakage:
        _refuse_leakage(split, clips)


def _refuse_leakage(split: Split, clips: Sequence[Clip]) -> None:
    nameless = sum(clip.speaker is None for clip in clips)
    shared = shared_speakers(split, clips)
    if shared:
        (first, second), speakers = next(iter(shared.items()))
        what = f"{len(speakers)} speakers are in both {first} and {second} ({listed(speakers, 5)})"
    elif nameless:
        what = f"{nameless} of {len(clips)} clips name no speaker, so that one may be in train and in test"
    else:
        return
    raise ValueError(
        f"Protocol {split.protocol}: {what}. A model recognises such voices again, and its score says little "
        f"about new ones. Use --protocol speaker_kfold, or accept it with {ACCEPT}; results and card then "
        "say speaker-dependent."
    )


def split_hash(split: Split) -> str:
    """SHA-256 of the compact JSON `{"dev": [...], "test": [...], "train": [...]}`, ids sorted, in UTF-8."""
    parts = {name: sorted(getattr(split, name)) for name in SPLITS}
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_split(split: Split, path: str | Path, columns: Mapping[str, list] | Any = None) -> None:
    """Writes `splits.json`, whole or not at all, with the clips per class where `columns` are given."""
    content = {"format": FORMAT} | asdict(split)
    if columns is not None:
        content["clips_per_class"] = clips_per_class(split, clips_of(columns), classes_of(columns))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def load_split(path: str | Path) -> Split:
    """Reads what [`save_split`] wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a split, or its hash is not that of its ids: somebody changed it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        split = Split(**{field.name: content[field.name] for field in fields(Split)})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is not a splits.json ({error!r})") from None
    split = replace(split, **{name: tuple(getattr(split, name)) for name in SPLITS})
    if split_hash(split) != split.sha256:
        raise ValueError(
            f"{path}: its ids have the hash {split_hash(split)}, it says {split.sha256}: it was changed "
            "after it was written. Make the split again, or fetch the file again."
        )
    return split

"""Assignment of clips to folds, and the command that freezes one for a corpus.

    python -m ser.data.folds INDEX.csv configs/splits/NAME.json

`INDEX.csv` has the columns id, speaker, gender and one or more label columns whose names begin with "emotion"
(`emotion_filename`, `emotion_modified`): all of them share the one assignment of speakers to folds.
"""

import csv
import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.clips import DEV, TEST, TRAIN, Clip, listed, read_clips
from ser.files import write_json_rows

if TYPE_CHECKING:
    import numpy as np

# How many random changes are tried to balance the folds; the search stops early after `_PATIENCE` failures in a row for
# each speaker.
_PROPOSALS, _PATIENCE = 20_000, 50
# Cost of a fold without a clip of a class that has enough speakers for every fold: larger than any imbalance.
_EMPTY_COST = 1e6
# Where a protocol has no dev, one of this many parts of train becomes dev.
_DEV_FOLDS = 10


def speaker_folds(clips: Sequence[Clip], num_folds: int, seed: int, labels: Sequence[Sequence[str]] = ()) -> list[int]:
    """Number of the fold of each clip, no speaker in two folds.

    scikit-learn's `StratifiedGroupKFold` over label and gender gives the start: it puts one speaker after another
    into a fold, those with the most uneven labels first, and never moves one again. Random moves and swaps of speakers
    follow. A change is kept when it lowers the sum of `(n / (N / K) - 1)^2`, where n counts the clips of a fold (all,
    by label, by gender, by label within gender) and N is the same count over all folds. A class of 38 clips then weighs
    as much as one of 1,000, as it does in UAR. A class that K or more speakers have gets a clip in every fold before
    anything else is balanced.

    Args:
        clips: The clips, sorted by id.
        num_folds: K, at most the number of speakers.
        seed: Seed of the moves; another seed gives other folds, balanced about as well.
        labels: Further labels of each clip to balance beside `clip.emotion`; none by default.

    Raises:
        ValueError: A clip names no speaker, or there are fewer speakers than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    speakers = speakers_of(clips)
    if len(speakers) < num_folds:
        least = f"give --num_folds {len(speakers)} or fewer" if len(speakers) > 2 else "that is too few to split by"
        raise ValueError(
            f"--num_folds {num_folds}: the corpus has {len(speakers)} speakers, and each fold needs one; {least}."
        )
    traits = [_traits(clip, extra) for clip, extra in zip(clips, labels or [()] * len(clips), strict=True)]
    speaker_of_clip = [clip.speaker for clip in clips]
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    first = _fold_numbers(splitter, [" ".join(own) for own in traits], speaker_of_clip)
    fold_of = dict(zip(speaker_of_clip, first, strict=True))
    start = [fold_of[speaker] for speaker in speakers]
    fold_of = dict(zip(speakers, _evened(start, _counts(clips, traits, speakers), num_folds, seed), strict=True))
    return [fold_of[clip.speaker] for clip in clips]


def fewer_folds(total: int, asked: int) -> list[str]:
    """The note for a corpus with fewer speakers than the folds asked for; empty for other corpora."""
    few = f"The corpus has {total} speakers, so there are {total} folds, not {asked}."
    return [few] if total < asked else []


def random_folds(clips: Sequence[Clip], num_folds: int, seed: int) -> list[int]:
    """Number of the fold of each clip, drawn at random within label and gender, whoever speaks.

    Raises:
        ValueError: There are fewer clips than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    if len(clips) < num_folds:
        raise ValueError(f"--num_folds {num_folds}: the corpus has {len(clips)} clips, and each fold needs one.")
    strata = [f"{clip.emotion} {clip.gender}" for clip in clips]
    return _fold_numbers(StratifiedKFold(num_folds, shuffle=True, random_state=seed), strata, None)


def speakers_of(clips: Sequence[Clip]) -> list[str]:
    """The speakers, sorted.

    Raises:
        ValueError: A clip names none.
    """
    nameless = [clip.id for clip in clips if clip.speaker is None]
    if nameless:
        raise ValueError(
            f"Column 'speaker': {len(nameless)} of {len(clips)} clips name no speaker ({listed(nameless, 3)}), so they "
            "cannot be split by speakers. Add the speakers, or use --protocol random_kfold with "
            "--accept_speaker_leakage true."
        )
    return sorted({clip.speaker for clip in clips if clip.speaker is not None})


def groups_of(clips: Sequence[Clip], column: str) -> list[str]:
    """The speakers, sessions or corpora of clips, sorted.

    Args:
        column: "speaker", "session" or "corpus".

    Raises:
        ValueError: A clip names none.
    """
    if column == "speaker":
        return speakers_of(clips)
    nameless = [clip.id for clip in clips if getattr(clip, column) is None]
    if nameless:
        raise ValueError(
            f"Column {column!r}: {len(nameless)} of {len(clips)} clips name no {column} ({listed(nameless, 3)}), so "
            f"they cannot be split by {column}. Give the column, or use --protocol speaker_kfold."
        )
    return sorted({getattr(clip, column) for clip in clips})


def corpora_of(clips: Sequence[Clip]) -> list[tuple[str]] | tuple[()]:
    """The corpus of each clip, a label to balance over folds; empty where there is one corpus."""
    names = [clip.corpus or "" for clip in clips]
    return [(name,) for name in names] if len(set(names)) > 1 else ()


def with_dev(parts: dict[str, list[Clip]], protocol: str, seed: int) -> tuple[dict[str, list[Clip]], list[str]]:
    """Adds a dev part, made of a tenth of train, where the protocol names none; see `splits.make_split`.

    Returns:
        The clips by part, and notes on how dev came about.

    Raises:
        ValueError: There is no train or no test.
    """
    missing = [part for part in (TRAIN, TEST) if not parts[part]]
    if missing:
        raise ValueError(
            f"--protocol {protocol}: no clip is in {' and none in '.join(missing)}; give the column 'split' in the "
            "manifest or a --splits_file."
        )
    if parts[DEV]:
        return parts, []
    train = parts[TRAIN]
    speakers = {clip.speaker for clip in train}
    by_speaker = protocol != "random_holdout" and None not in speakers and len(speakers) >= 2
    folds = speaker_folds(train, min(_DEV_FOLDS, len(speakers)), seed, corpora_of(train)) if by_speaker else []
    folds = folds or random_folds(train, _DEV_FOLDS, seed)
    dev = [clip for clip, number in zip(train, folds, strict=True) if number == 0]
    rest = [clip for clip, number in zip(train, folds, strict=True) if number != 0]
    how = f"{len({clip.speaker for clip in dev})} whole speakers" if by_speaker else "drawn at random"
    note = f"The protocol names no dev: {len(dev)} of its {len(train)} training clips are used as dev, {how}."
    return {TRAIN: rest, DEV: dev, TEST: parts[TEST]}, [note]


def fold_hash(fold_of: dict[str, int]) -> str:
    """SHA-256 of the compact JSON `{id: fold, ...}`, keys sorted, in UTF-8."""
    content = json.dumps(fold_of, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def hash_of_folds(hashes: Sequence[str]) -> str:
    """One hash for the splits of several folds: SHA-256 over their hashes in the order of the folds.

    A single fold keeps its own hash.
    """
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def frozen_folds(columns: dict[str, list], num_folds: int = 5, seed: int = 42) -> dict[str, Any]:
    """The content of a file of frozen folds.

    Args:
        columns: id, speaker, gender and label columns whose names begin with "emotion", as lists.

    Returns:
        `folds` (ids of each), `sha256` over them, and per fold the speakers, the clips of each gender and, for every
        label column, the clips and the speakers of each class.
    """
    names = [name for name in columns if name.startswith("emotion")]
    order = sorted(range(len(columns["id"])), key=lambda row: columns["id"][row])
    columns = {name: [values[row] for row in order] for name, values in columns.items()}
    clips = read_clips({name: columns[name] for name in ("id", "speaker", "gender")} | {"emotion": columns[names[0]]})
    labels = [tuple(columns[name][row] for name in names[1:]) for row in range(len(clips))]
    folds = speaker_folds(clips, num_folds, seed, labels)
    members = [[row for row, number in enumerate(folds) if number == fold] for fold in range(num_folds)]

    def table(name: str, key: str) -> list[dict[str, int]]:
        pairs = [{(columns[name][row], columns[key][row]) for row in fold} for fold in members]
        return [{value: Counter(v for v, _ in fold)[value] for value in sorted(set(columns[name]))} for fold in pairs]

    return {
        "format": 1,
        "protocol": "speaker_kfold",
        "num_folds": num_folds,
        "seed": seed,
        "sha256": fold_hash(dict(zip(columns["id"], folds, strict=True))),
        "speakers": [sorted({clips[row].speaker for row in fold}) for fold in members],
        "clips_per_gender": table("gender", "id"),
        "clips_per_class": {name: table(name, "id") for name in names},
        "speakers_per_class": {name: table(name, "speaker") for name in names},
        "folds": [[clips[row].id for row in fold] for fold in members],
    }


def _traits(clip: Clip, labels: Sequence[str]) -> tuple[str, ...]:
    """The properties of one clip that are balanced over folds: labels, gender, and each label within the gender."""
    named = dict.fromkeys((f"0 {clip.emotion}", *(f"{index} {label}" for index, label in enumerate(labels, 1))))
    return (*named, f"{clip.gender}", *(f"{label} {clip.gender}" for label in named))


def _counts(clips: Sequence[Clip], traits: Sequence[tuple[str, ...]], speakers: Sequence[str]) -> "np.ndarray":
    """Number of clips of each speaker with each trait, `[speakers, traits + 1]`; the last column counts all clips."""
    import numpy as np

    columns = {trait: index for index, trait in enumerate(sorted({trait for own in traits for trait in own}))}
    rows: dict[str | None, int] = {speaker: index for index, speaker in enumerate(speakers)}
    counts: np.ndarray = np.zeros((len(speakers), len(columns) + 1))
    for clip, own in zip(clips, traits, strict=True):
        counts[rows[clip.speaker], [*(columns[trait] for trait in own), -1]] += 1
    return counts


def _evened(folds: list[int], counts: "np.ndarray", num_folds: int, seed: int) -> list[int]:
    """Moves and swaps speakers between folds while this lowers the cost; see [`speaker_folds`]."""
    import numpy as np

    expected = counts.sum(axis=0) / num_folds
    everywhere = (counts > 0).sum(axis=0) >= num_folds

    def cost(table: np.ndarray) -> float:
        return ((table / expected - 1) ** 2).sum() + _EMPTY_COST * (table[:, everywhere] == 0).sum()

    random, folds, failed = np.random.default_rng(seed), list(folds), 0
    table = np.stack([counts[np.array(folds) == fold].sum(axis=0) for fold in range(num_folds)])
    for first, second, fold in random.integers((len(folds), len(folds), 2 * num_folds), size=(_PROPOSALS, 3)).tolist():
        # Half of the draws move the first speaker to another fold, the other half swap the two speakers.
        is_move, source = fold < num_folds, folds[first]
        target = fold if is_move else folds[second]
        if source == target:
            continue
        change = counts[first] - (0 if is_move else counts[second])
        old = table[[source, target]]
        new = old + np.stack((-change, change))
        if cost(new) < cost(old) - 1e-9:
            table[[source, target]], folds[first], failed = new, target, 0
            folds[second] = folds[second] if is_move else source
        elif (failed := failed + 1) > _PATIENCE * len(folds):
            break
    return folds


def _fold_numbers(splitter: Any, strata: Sequence[str], groups: Sequence[str | None] | None) -> list[int]:
    import numpy as np

    if max(Counter(strata).values()) < splitter.n_splits:
        strata = [""] * len(strata)
    folds = np.zeros(len(strata), dtype=int)
    with warnings.catch_warnings():
        # A stratum has fewer clips than folds. The split's table of clips per class shows what this costs a class.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(splitter.split(strata, strata, groups)):
            folds[held] = number
    return folds.tolist()


def main(index: str, path: str) -> None:
    """Freezes the folds of the corpus that a CSV describes, and prints their table."""
    with open(index, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    content = frozen_folds({name: [row[name] for row in rows] for name in rows[0]})
    write_json_rows(content, Path(path))
    for fold, genders in enumerate(content["clips_per_gender"]):
        print(f"fold {fold}: {len(content['speakers'][fold])} speakers, {genders}")
        for name, table in content["clips_per_class"].items():
            print(f"  {name}: {table[fold]}")


if __name__ == "__main__":
    main(*sys.argv[1:])

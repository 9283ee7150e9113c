"""What the splits need to know of each clip: who speaks, with which label, and not the audio."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

ALL_CLIPS = "all"
TRAIN, DEV, TEST = "train", "dev", "test"
SPLITS = (TRAIN, DEV, TEST)
_DEV_WORDS = {"val", "valid", "validation", "development"}


@dataclass(frozen=True)
class Clip:
    """One clip of a corpus.

    Args:
        id: Its unique name.
        speaker: Who speaks, or None where the source does not tell.
        gender: "female", "male" or None.
        emotion: The name of its label; [`ALL_CLIPS`] for a corpus without labels.
        split: The split that its source puts it in ("train", "dev", "test"), or None.
        recording: Hash of the decoded samples, or None where the audio is not at hand.
    """

    id: str
    speaker: str | None = None
    gender: str | None = None
    emotion: str = ALL_CLIPS
    split: str | None = None
    recording: str | None = None


def clips_of(columns: Mapping[str, list] | Any) -> list[Clip]:
    """Reads the columns of a corpus into clips, sorted by id, so that no split depends on the order of rows.

    Args:
        columns: A `datasets.Dataset`, or a dict of equally long lists. `id` is required; `speaker`, `gender`,
            `emotion` (names, or numbers of a `ClassLabel`), `split` and `recording` are optional.

    Raises:
        ValueError: There is no column `id`, or an id occurs twice.
    """
    names = getattr(columns, "column_names", None) or list(columns)
    if "id" not in names:
        raise ValueError(f"A split needs the column 'id'; the corpus has the columns {', '.join(names)}.")
    ids = [str(value) for value in columns["id"]]
    if len(set(ids)) < len(ids):
        twice = sorted(i for i, count in Counter(ids).items() if count > 1)
        raise ValueError(f"Column 'id': {len(twice)} ids occur more than once: {listed(twice, 5)}.")
    optional = ("speaker", "gender", "split", "recording")
    read = {name: list(columns[name]) for name in optional if name in names}
    if "emotion" in names:
        read["emotion"] = _label_names(columns)
    read = {name: [_text(value) for value in values] for name, values in read.items()}
    clips = [
        Clip(i, **{name: values[row] for name, values in read.items() if values[row] is not None})
        for row, i in enumerate(ids)
    ]
    return sorted((replace(clip, split=split_word(clip.split)) for clip in clips), key=lambda clip: clip.id)


def classes_of(columns: Mapping[str, list] | Any) -> list[str]:
    """The labels of a corpus: the names of its `ClassLabel` if it has one, else those that occur, sorted."""
    feature = getattr(columns, "features", {}).get("emotion")
    if hasattr(feature, "names"):
        return list(feature.names)
    return sorted({clip.emotion for clip in clips_of(columns)})


def split_word(word: str | None) -> str | None:
    """Maps a word for a split ("val", "validation", "Test", ...) to "train", "dev" or "test".

    Raises:
        ValueError: The word means none of the three.
    """
    if word is None:
        return None
    split = word.strip().lower()
    split = DEV if split in _DEV_WORDS else split.removesuffix("ing")
    if split not in SPLITS:
        raise ValueError(f"Column 'split': {word!r} is none of train, dev (val, validation) and test.")
    return split


def listed(values: Iterable[str], most: int = 10) -> str:
    """Joins values for a message and counts what it leaves out: "a, b and 3 more"."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _label_names(columns: Mapping[str, list] | Any) -> list[str | None]:
    feature = getattr(columns, "features", {}).get("emotion")
    values = list(columns["emotion"])
    if hasattr(feature, "int2str"):
        return [value if value is None else feature.int2str(value) for value in values]
    return values


def _text(value: Any) -> str | None:
    """A cell as text; None for what CSV readers make of an empty cell."""
    return None if value is None or value != value or value == "" else str(value)

"""What splits need to know about each clip: who speaks, with which label. No audio."""

import difflib
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ser.data.segments import Segment
from ser.names import cell, speaker_cell

ALL_CLIPS = "all"
TRAIN, DEV, TEST = SPLITS = ("train", "dev", "test")
_DEV_WORDS = {"val", "valid", "validation", "development"}


@dataclass(frozen=True)
class Clip:
    """One clip, as a split sees it.

    Attributes:
        id: Its name.
        speaker: Who speaks, or None where the source does not tell.
        gender: "female", "male" or None.
        emotion: The name of its label; "all" in a corpus without labels.
        split: "train", "dev" or "test" where its source says so, else None.
        session: In which session it was recorded, or None.
        corpus: The corpus it comes from, or None.
        recording: Hash of the decoded samples, or None where the audio is not at hand.
        file: For a segment, the name of the file that holds it.
        segment: The part of the file that is the clip; None for a whole file.
    """

    id: str
    speaker: str | None = None
    gender: str | None = None
    emotion: str = ALL_CLIPS
    split: str | None = None
    session: str | None = None
    corpus: str | None = None
    recording: str | None = None
    file: str | None = None
    segment: Segment | None = None


def read_clips(columns: Mapping[str, list] | Any) -> list[Clip]:
    """Reads a corpus into clips sorted by id, so that a split does not depend on the order of the rows.

    Args:
        columns: A `datasets.Dataset`, or a dict of equally long lists. `id` is required; `speaker`, `gender`,
            `emotion` (names, or the numbers of a `ClassLabel`), `split`, `session`, `corpus` and `recording` are
            optional, and so is any cell in them. `audio` is not touched.

    Raises:
        ValueError: There is no column `id`, an id occurs twice, or a word for a split is unknown.
    """
    return _read_mapping(columns) if isinstance(columns, Mapping) else list(_read_dataset(columns))


@functools.lru_cache(maxsize=4)
def _read_dataset(dataset: Any) -> tuple[Clip, ...]:
    """Kept for datasets, which never change: every fold asks for the clips of the whole corpus a dozen times."""
    return tuple(_read_mapping(dataset))


def _read_mapping(columns: Mapping[str, list] | Any) -> list[Clip]:
    names = getattr(columns, "column_names", None) or list(columns)
    if "id" not in names:
        raise ValueError(f"A split needs the column 'id'; the corpus has the columns {', '.join(names)}.")
    # `[:]` reads a column of a Dataset at once; iterating over it reads row by row.
    ids = [str(value) for value in columns["id"][:]]
    twice = [i for i, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"Column 'id': {len(twice)} ids occur more than once ({listed(twice, 5)}).")
    optional = [name for name in ("speaker", "gender", "split", "session", "corpus", "recording") if name in names]
    read: dict[str, list[Any]] = {
        name: [(speaker_cell if name == "speaker" else cell)(value) for value in columns[name][:]] for name in optional
    }
    if "emotion" in names:
        read["emotion"] = _label_names(columns)
    if "split" in read:
        read["split"] = [split_word(word) for word in read["split"]]
    clips = (Clip(i, **{name: values[row] for name, values in read.items()}) for row, i in enumerate(ids))
    return sorted((replace(clip, emotion=clip.emotion or ALL_CLIPS) for clip in clips), key=lambda clip: clip.id)


def classes_of(columns: Mapping[str, list] | Any) -> list[str]:
    """The labels of a corpus: the names of its `ClassLabel` if it has one, else those that occur, sorted."""
    names = getattr(_label_feature(columns), "names", None)
    return list(names) if names else sorted({clip.emotion for clip in read_clips(columns)})


def split_word(word: str | None) -> str | None:
    """Maps a word for a part ("val", "validation", "Test", ...) to "train", "dev" or "test", and None to None.

    Raises:
        ValueError: The word means none of the three.
    """
    if word is None:
        return None
    part = word.strip().lower()
    part = DEV if part in _DEV_WORDS else part.removesuffix("ing")
    if part not in SPLITS:
        raise ValueError(f"Column 'split': {word!r} is none of train, dev (or val, validation) and test.")
    return part


def listed(values: Iterable[Any], most: int = 10) -> str:
    """Joins values for a message and counts those it leaves out: "a, b and 3 more"."""
    values = [str(value) for value in values]
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 clip", "2 clips"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def closest(word: str, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns ` Did you mean X?` for the allowed word nearest to `word`, or nothing."""
    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=cutoff)
    return f" Did you mean {found[0]!r}?" if found else ""


def _label_feature(columns: Mapping[str, list] | Any) -> Any:
    return (getattr(columns, "features", None) or {}).get("emotion")


def _label_names(columns: Mapping[str, list] | Any) -> list[str | None]:
    int2str = getattr(_label_feature(columns), "int2str", None)
    values = list(columns["emotion"][:])
    return [int2str(value) if int2str and isinstance(value, int) else cell(value) for value in values]

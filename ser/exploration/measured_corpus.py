"""Everything that the data page rests on: what is known of each clip of a corpus, and what is measured of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser.data.audio import corpus_facts
from ser.data.clips import read_clips
from ser.data.copies import Copies, copies_of
from ser.data.signal import corpus_signal
from ser.exploration.projection import Features, corpus_features
from ser.exploration.voices import corpus_voices

# Without `everything`, at most so many clips are measured, evenly spaced over the corpus: a page in a minute.
MAX_SIGNAL_CLIPS, MAX_VOICE_CLIPS = 5000, 1000
NO_CLASSES = "all clips"


@dataclass(frozen=True)
class MeasuredCorpus:
    """A corpus and what was measured of it.

    Attributes:
        facts: As `corpus_facts` gives them.
        classes: Names of the classes, in the order of the corpus; `NO_CLASSES` alone where there are none.
        clips: One row for each clip of the corpus: `id`, `speaker`, `gender`, `corpus`, `emotion`, `seconds`; speaker,
            gender and corpus are None where they are unknown.
        signal: The same of the clips whose signal was measured, with `ser.data.signal.MEASURES`; indexed by row.
        voices: The same of the clips whose voice was measured, with the keys of `VOICES`; indexed by row.
        features: Features of the clips of `voices`, in their order.
        copies: Identical and nearly identical recordings; None where they were not searched for.
        transcripts: Number of clips with a transcript.
    """

    facts: dict[str, Any]
    classes: list[str]
    clips: pd.DataFrame
    signal: pd.DataFrame
    voices: pd.DataFrame
    features: Features
    copies: Copies | None
    transcripts: int

    @property
    def has_classes(self) -> bool:
        """Whether clips have a class."""
        return self.classes != [NO_CLASSES]

    def by_class(self, table: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
        """The finite values of one column of `clips`, `signal` or `voices` in each class."""
        values = table[column].to_numpy(float)
        return {name: values[(table["emotion"] == name).to_numpy() & np.isfinite(values)] for name in self.classes}

    def class_codes(self, table: pd.DataFrame) -> np.ndarray:
        """Index of the class of each row of `clips`, `signal` or `voices`."""
        return np.array([self.classes.index(name) for name in table["emotion"]], dtype=np.int64)


def names_or_none(column: pd.Series) -> list[str | None]:
    """The names in a column, None where there is none."""
    return [None if pd.isna(value) else str(value) for value in column]


def medians(groups: Mapping[str, np.ndarray]) -> str:
    """The median of each group in words, for those who cannot see its violin."""
    known = (f"{name} {np.median(values):.3g}" for name, values in groups.items() if len(values))
    return f"medians {', '.join(known)}"


def measure_corpus(
    dataset: Any, cache_dir: str | None = None, num_proc: int = 1, everything: bool = False, encoder: str | None = None
) -> MeasuredCorpus:
    """Measures a prepared corpus; all measures are cached.

    Args:
        dataset: Prepared corpus.
        cache_dir: Where prepared corpora are kept; the cache of datasets by default.
        num_proc: Processes.
        everything: Whether all clips of a large corpus are measured.
        encoder: The encoder whose frozen features are preferred, if several were run.
    """
    import datasets

    clips, classes = _clips_of(dataset)
    signal_rows = np.arange(len(clips)) if everything else evenly(len(clips), MAX_SIGNAL_CLIPS)
    voice_rows = np.arange(len(clips)) if everything else evenly(len(clips), MAX_VOICE_CLIPS)
    signal = corpus_signal(_selected(dataset, signal_rows), num_proc)
    voices = corpus_voices(_selected(dataset, voice_rows), cache_dir, num_proc)
    cache = Path(cache_dir or datasets.config.HF_DATASETS_CACHE)
    transcripts = dataset["transcript"][:] if "transcript" in dataset.column_names else []
    return MeasuredCorpus(
        facts=corpus_facts(dataset),
        classes=classes,
        clips=clips,
        signal=clips.iloc[signal_rows].assign(**signal),
        voices=clips.iloc[voice_rows].assign(**voices),
        features=corpus_features(dataset, cache, voice_rows, encoder, num_proc),
        copies=copies_of(dataset) if everything or len(clips) <= MAX_SIGNAL_CLIPS else None,
        transcripts=sum(bool(text) for text in transcripts),
    )


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` things, evenly spaced, each once.

    >>> evenly(5, 2).tolist()
    [0, 2]
    """
    return np.arange(count) if count <= most else np.arange(0, most) * math.ceil(1e6 * count / most) // 1_000_000


def _selected(dataset: Any, rows: np.ndarray) -> Any:
    return dataset if len(rows) == len(dataset) else dataset.select(rows)


def _clips_of(dataset: Any) -> tuple[pd.DataFrame, list[str]]:
    """The columns of a corpus, cleaned as splits clean them, in the order of its rows; and its classes."""
    known = {clip.id: clip for clip in read_clips(dataset)}
    own = [known[name] for name in map(str, dataset["id"][:])]
    table = pd.DataFrame(
        {
            "id": [clip.id for clip in own],
            **{name: pd.Series([getattr(clip, name) for clip in own], dtype=object) for name in ("speaker", "gender")},
            "corpus": pd.Series([clip.corpus for clip in own], dtype=object),
            "emotion": [clip.emotion for clip in own],
            "seconds": np.asarray(dataset["duration"][:], float),
        }
    )
    if "emotion" not in dataset.features:
        return table.assign(emotion=NO_CLASSES), [NO_CLASSES]
    return table, list(dataset.features["emotion"].names)

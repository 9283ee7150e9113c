"""What the page knows of one recording: its scores, its timeline, its outline, and a copy to listen to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import pcm_16
from ser.inference.scoring import reason

# From here on one answer for the whole hides what changes within: two windows of the timeline.
TIMELINE_SECONDS = 8.0
ReadBlocks = Callable[..., Iterator[np.ndarray]]


@dataclass(frozen=True)
class Answer:
    """One recording, classified.

    Attributes:
        name: The file's name.
        seconds: Its length.
        scores: Of the whole, `{"label", "score"}` each, as the pipeline returns them.
        segments: What is heard when, as the pipeline returns it; empty for a recording under `TIMELINE_SECONDS`.
        outline: Loudest sample of each of up to 600 equal parts, in [0, 1].
        sound: What the model heard, as a file that browsers play.
    """

    name: str
    seconds: float
    scores: list[dict[str, Any]]
    segments: list[dict[str, Any]]
    outline: np.ndarray
    sound: Path


def classify(pipe: Any, read_blocks: ReadBlocks, path: Path) -> Answer:
    """Classifies a recording of any length and format in constant memory.

    It is decoded once, into a FLAC file beside it: 16 bits at the model's rate lose nothing there, so the scores are
    those of the recording itself, and every browser plays it.

    Args:
        pipe: A `SERPipeline`.
        read_blocks: `ser_model.read_blocks`.
        path: The recording, in a folder that may be written to.

    Raises:
        ValueError: It cannot be read or classified; the message says why and leaves out the name.
    """
    rate_hz = pipe.feature_extractor.sampling_rate
    sound = path.with_name("heard.flac")
    try:
        peaks = _write_sound(read_blocks(path, str(sound), rate_hz), sound, rate_hz)
        scores = pipe(str(sound))
        seconds = len(peaks) / 100
        segments = pipe(str(sound), timeline=True) if seconds >= TIMELINE_SECONDS else []
    except (OSError, ValueError) as error:
        raise ValueError(reason(error, str(sound))) from error
    return Answer(path.name, seconds, scores, segments, outline(peaks), sound)


def outline(peaks: np.ndarray, parts: int = 600) -> np.ndarray:
    """The largest peak of each of at most `parts` equal pieces of a recording, scaled so that the largest is 1."""
    edges = np.unique(np.linspace(0, len(peaks), min(parts, len(peaks)) + 1).astype(int))[:-1]
    largest = np.maximum.reduceat(peaks, edges)
    return largest / max(float(largest.max()), 1e-4)


def _write_sound(blocks: Iterable[np.ndarray], path: Path, rate_hz: int) -> np.ndarray:
    """Writes blocks as FLAC and returns the largest absolute sample of every 10 ms."""
    import soundfile

    from ser.files import draft_of

    frame, peaks, rest = rate_hz // 100, [], np.zeros(0, np.float32)
    with draft_of(path) as draft, soundfile.SoundFile(draft, "w", rate_hz, 1, "PCM_16", format="FLAC") as file:
        for block in blocks:
            # As integers: a float would be scaled by 32767 on its way, and read back as another.
            file.write(pcm_16(block))
            rest = np.concatenate([rest, np.abs(block)])
            whole = len(rest) // frame * frame
            peaks.append(rest[:whole].reshape(-1, frame).max(axis=1))
            rest = rest[whole:]
    return np.concatenate([*peaks, [rest.max() if len(rest) else 0.0]])

"""The answer for one recording: scores, timeline, waveform outline, and a copy to listen to."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import pcm_16
from ser.inference.scoring import check_finite, reason

# Two windows of the timeline. A longer recording may change, so it gets a timeline as well.
TIMELINE_SECONDS = 8.0
MAX_MINUTES = 10.0
# To decode a recording. A file can be slow to decode and short; the scores of a bounded length take bounded time.
_MAX_DECODING_SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    """One recording, classified.

    Attributes:
        name: The file's name.
        seconds: Its length.
        scores: `{"label", "score"}` of the whole recording, as the pipeline returns them.
        segments: The timeline, as the pipeline returns it; empty for a recording under `TIMELINE_SECONDS`.
        outline: Loudest sample of each of up to 600 equal parts, in [0, 1].
        sound: The model's input as FLAC, which browsers play.
    """

    name: str
    seconds: float
    scores: list[dict[str, Any]]
    segments: list[dict[str, Any]]
    outline: np.ndarray
    sound: Path


def classify(pipe: Any, path: Path, max_minutes: float = MAX_MINUTES) -> Answer:
    """Classifies a recording of any length and format in constant memory.

    The recording is decoded once, into a FLAC file beside it. The model's input has 16 bits, so the scores are those of
    the recording, and every browser plays FLAC.

    Args:
        pipe: A `SERPipeline`.
        path: The recording, in a writable folder.
        max_minutes: A longer recording is refused, before all of it is decoded.

    Raises:
        ValueError: It cannot be read or classified; the message says why and leaves out the name.
    """
    from ser_model import read_blocks

    rate_hz = pipe.feature_extractor.sampling_rate
    sound = path.with_name("heard.flac")
    try:
        peaks = _write_sound(_bounded(read_blocks(path, str(sound), rate_hz), rate_hz, max_minutes), sound, rate_hz)
        scores = pipe(str(sound))
        seconds = len(peaks) / 100
        segments = pipe(str(sound), timeline=True) if seconds >= TIMELINE_SECONDS else []
        for answered in (scores, *(segment["scores"] for segment in segments)):
            check_finite(answered)
    except (OSError, ValueError) as error:
        raise ValueError(reason(error, str(sound))) from error
    return Answer(path.name, seconds, scores, segments, outline(peaks), sound)


def _bounded(blocks: Iterable[np.ndarray], rate_hz: int, max_minutes: float) -> Iterator[np.ndarray]:
    """Passes blocks on until they are too long, or take too long.

    Raises:
        ValueError: They do.
    """
    samples, deadline = 0, time.monotonic() + _MAX_DECODING_SECONDS
    for block in blocks:
        samples += len(block)
        if samples > 60 * max_minutes * rate_hz:
            raise ValueError(f"is longer than {max_minutes:g} minutes; cut it.")
        if time.monotonic() > deadline:
            raise ValueError(f"took longer than {_MAX_DECODING_SECONDS:.0f} s to decode; convert it to WAV.")
        yield block


def outline(peaks: np.ndarray, parts: int = 600) -> np.ndarray:
    """Peaks of at most `parts` equal pieces of a recording, scaled so that the largest is 1."""
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

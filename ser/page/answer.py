"""The answer for one recording: scores, timeline, waveform outline, and a copy to listen to."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.inference.scoring import check_finite, reason
from ser.page.decoding import Decoder, decode

# Two windows of the timeline. A longer recording may change, so it gets a timeline as well.
TIMELINE_SECONDS = 8.0


@dataclass(frozen=True)
class Limits:
    """What one recording may take.

    Attributes:
        minutes: A longer recording is refused, before all of it is decoded.
        seconds: Decoding and scoring that take longer are given up.
    """

    minutes: float = 10.0
    seconds: float = 120.0


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


def classify(pipe: Any, path: Path, limits: Limits, decoder: Decoder | None = None) -> Answer:
    """Classifies a recording of any format in constant memory.

    The recording is decoded once, into a FLAC file beside it. The model's input has 16 bits, so the scores are those of
    the recording, and every browser plays FLAC.

    Args:
        pipe: A `SERPipeline`.
        path: The recording, in a writable folder.
        limits: What it may take.
        decoder: The process that decodes; by default this one decodes, and its time is not limited.

    Raises:
        ValueError: It cannot be read or classified within the limits; the message says why and leaves out the name.
    """
    sound = path.with_name("heard.flac")
    try:
        with decoder.in_use if decoder else nullcontext():
            peaks, scores, segments = _heard(pipe, path, sound, limits, decoder)
        for answered in (scores, *(segment["scores"] for segment in segments)):
            check_finite(answered)
    except (OSError, ValueError) as error:
        raise ValueError(reason(error, str(sound))) from error
    return Answer(path.name, len(peaks) / 100, scores, segments, outline(peaks), sound)


def _heard(
    pipe: Any, path: Path, sound: Path, limits: Limits, decoder: Decoder | None
) -> tuple[np.ndarray, list, list]:
    """Peaks, scores and timeline of a recording."""
    rate_hz = pipe.feature_extractor.sampling_rate
    if decoder:
        decoder.wait()
    end = time.monotonic() + limits.seconds
    if decoder:
        peaks = decoder.decode(path, sound, rate_hz, limits.minutes, limits.seconds)
    else:
        peaks = decode(path, sound, rate_hz, limits.minutes)
    with _ended_at(end, pipe.model, limits.seconds):
        scores = pipe(str(sound))
        return peaks, scores, pipe(str(sound), timeline=True) if len(peaks) >= 100 * TIMELINE_SECONDS else []


@contextmanager
def _ended_at(end: float, model: Any, seconds: float) -> Iterator[None]:
    """Lets the model hear nothing more in this thread after a moment; it hears a long recording in pieces.

    Args:
        end: The moment, on the clock of `time.monotonic`.

    Raises:
        ValueError: The moment came.
    """
    thread = threading.get_ident()

    def check(*_: Any) -> None:
        if threading.get_ident() == thread and time.monotonic() > end:
            raise ValueError(f"took longer than {seconds:g} s to score; cut it.")

    hook = model.register_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


def outline(peaks: np.ndarray, parts: int = 600) -> np.ndarray:
    """Peaks of at most `parts` equal pieces of a recording, scaled so that the largest is 1."""
    edges = np.unique(np.linspace(0, len(peaks), min(parts, len(peaks)) + 1).astype(int))[:-1]
    largest = np.maximum.reduceat(peaks, edges)
    return largest / max(float(largest.max()), 1e-4)

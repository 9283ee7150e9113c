"""Scores of many recordings: decoded ahead, batched by length, the unreadable ones set aside."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ser.inference.loading import is_exact_in_batches

# Recordings are sorted by length within as much as this, in memory as 16 kHz float32: 64 MB.
_BUFFER_SECONDS = 1000.0
_DECODERS = 4


def predict(pipe: Any, files: Iterable[str], batch_seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """Classifies recordings, each as a whole.

    Args:
        pipe: A `SERPipeline`.
        files: Paths and URLs.
        batch_seconds: Seconds of audio in a batch, padding counted; 256 on a GPU. A CPU is fastest with one recording
            at a time (`benchmarks/bench_infer.py`), which is its default. A stock model, whose scores depend on the
            batch, always takes one at a time.

    Yields:
        In the order of `files`: `{"file", "scores"}` with what the pipeline returns, or `{"file", "error"}`.
    """
    if batch_seconds is None:
        batch_seconds = 0.0 if pipe.device.type == "cpu" else 256.0
    if not is_exact_in_batches(pipe):
        batch_seconds = 0.0
    rate_hz = pipe.feature_extractor.sampling_rate
    buffer: list[tuple[str, Any]] = []
    seconds = 0.0
    for file, outcome in _decoded(pipe, files):
        buffer.append((file, outcome))
        seconds += len(outcome) / rate_hz if isinstance(outcome, np.ndarray) else 0.0
        if seconds >= _BUFFER_SECONDS or len(buffer) >= 1000:
            yield from _scored(pipe, buffer, batch_seconds)
            buffer, seconds = [], 0.0
    yield from _scored(pipe, buffer, batch_seconds)


def predict_timelines(pipe: Any, files: Iterable[str], **cutting: Any) -> Iterator[dict[str, Any]]:
    """Says what is heard when, recording by recording.

    Args:
        cutting: `window_seconds` and `hop_seconds`.

    Yields:
        In the order of `files`: `{"file", "segments"}` with what the pipeline returns, or `{"file", "error"}`.
    """
    for file in files:
        try:
            yield {"file": file, "segments": pipe(file, timeline=True, **cutting)}
        except (OSError, ValueError) as error:
            yield {"file": file, "error": reason(error, file)}


def reason(error: Exception, file: str) -> str:
    """Why a recording cannot be used, in one line that does not repeat its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text.removeprefix(f"{file}: ")


def _decoded(pipe: Any, files: Iterable[str]) -> Iterator[tuple[str, np.ndarray | Exception | None]]:
    """Each file with its wave, with None where it is too long to be held, or with what is wrong with it."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        waiting: deque[tuple[str, Future]] = deque()
        for file in files:
            waiting.append((file, pool.submit(_decode, pipe, file)))
            if len(waiting) > 2 * _DECODERS:
                first, future = waiting.popleft()
                yield first, future.result()
        for file, future in waiting:
            yield file, future.result()


def _decode(pipe: Any, source: str) -> np.ndarray | Exception | None:
    try:
        return pipe.read_short(source)
    except (OSError, ValueError) as error:
        return error


def _scored(pipe: Any, buffer: list[tuple[str, Any]], batch_seconds: float) -> Iterator[dict[str, Any]]:
    from ser.data.batching import fill_by_duration

    answers: list[dict[str, Any]] = [{}] * len(buffer)
    rate_hz = pipe.feature_extractor.sampling_rate
    lengths = np.array([len(wave) if isinstance(wave, np.ndarray) else -1 for _, wave in buffer]) / rate_hz
    order = np.argsort(lengths, kind="stable")
    for batch in fill_by_duration(order[lengths[order] >= 0], lengths, batch_seconds):
        waves = [{"array": buffer[row][1], "sampling_rate": rate_hz, "path": buffer[row][0]} for row in batch]
        for row, scores in zip(batch, pipe(waves, batch_size=len(waves)), strict=True):
            answers[row] = {"file": buffer[row][0], "scores": scores}
    for row, (file, outcome) in enumerate(buffer):
        if isinstance(outcome, Exception):
            answers[row] = {"file": file, "error": reason(outcome, file)}
        elif outcome is None:
            answers[row] = _score_long(pipe, file)
    yield from answers


def _score_long(pipe: Any, file: str) -> dict[str, Any]:
    try:
        return {"file": file, "scores": pipe(file)}
    except (OSError, ValueError) as error:
        return {"file": file, "error": reason(error, file)}

"""Scores many recordings: decodes ahead, batches by length, reports unreadable ones apart."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ser.inference.download import MAX_MEGABYTES, local_copy
from ser.inference.loading import is_exact_in_batches

# Recordings are sorted by length within this many seconds of audio; as 16 kHz float32 it takes 64 MB.
_BUFFER_SECONDS = 1000.0
_DECODERS = 4


def predict(
    pipe: Any,
    files: Iterable[str],
    batch_seconds: float | None = None,
    max_megabytes: float = MAX_MEGABYTES,
    embeddings: bool = False,
) -> Iterator[dict[str, Any]]:
    """Classifies recordings, each as a whole.

    Args:
        pipe: A `SERPipeline`.
        files: Paths and URLs.
        batch_seconds: Seconds of audio in a batch, padding counted; 256 on a GPU. A CPU is fastest with one recording
            at a time (`benchmarks/bench_infer.py`), which is its default. A stock model, whose scores depend on the
            batch, always takes one at a time.
        max_megabytes: A larger download is refused.
        embeddings: Whether to give the pooled vector of each recording in place of its scores.

    Yields:
        In the order of `files`: `{"file", "scores"}` or `{"file", "embedding"}` with what the pipeline returns, or
        `{"file", "error"}`.
    """
    if batch_seconds is None:
        batch_seconds = 0.0 if pipe.device.type == "cpu" else 256.0
    if not is_exact_in_batches(pipe):
        batch_seconds = 0.0
    rate_hz = pipe.feature_extractor.sampling_rate
    buffer: list[tuple[str, Any]] = []
    seconds = 0.0
    for file, outcome in _decoded(pipe, files, max_megabytes):
        buffer.append((file, outcome))
        seconds += len(outcome) / rate_hz if isinstance(outcome, np.ndarray) else 0.0
        if seconds >= _BUFFER_SECONDS or len(buffer) >= 1000:
            yield from _scored(pipe, buffer, batch_seconds, max_megabytes, embeddings)
            buffer, seconds = [], 0.0
    yield from _scored(pipe, buffer, batch_seconds, max_megabytes, embeddings)


def predict_timelines(
    pipe: Any, files: Iterable[str], max_megabytes: float = MAX_MEGABYTES, **cutting: Any
) -> Iterator[dict[str, Any]]:
    """Makes the timeline of each recording.

    Args:
        max_megabytes: A larger download is refused.
        cutting: `window_seconds` and `hop_seconds`.

    Yields:
        In the order of `files`: `{"file", "segments"}` with what the pipeline returns, or `{"file", "error"}`.
    """
    for file in files:
        try:
            with local_copy(file, max_megabytes) as path:
                segments = pipe(path, timeline=True, **cutting)
            for segment in segments:
                check_finite(segment["scores"])
            yield {"file": file, "segments": segments}
        except (OSError, ValueError) as error:
            yield {"file": file, "error": reason(error, file)}


def reason(error: Exception, file: str) -> str:
    """Why a recording cannot be used, in one line without its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text.removeprefix(f"{file}: ")


def _decoded(
    pipe: Any, files: Iterable[str], max_megabytes: float
) -> Iterator[tuple[str, np.ndarray | Exception | None]]:
    """Each file with its wave, None where it is too long for memory, or the error."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        waiting: deque[tuple[str, Future]] = deque()
        for file in files:
            waiting.append((file, pool.submit(_decode, pipe, file, max_megabytes)))
            if len(waiting) > 2 * _DECODERS:
                first, future = waiting.popleft()
                yield first, future.result()
        for file, future in waiting:
            yield file, future.result()


def _decode(pipe: Any, source: str, max_megabytes: float) -> np.ndarray | Exception | None:
    try:
        with local_copy(source, max_megabytes) as path:
            return pipe.read_short(path)
    except (OSError, ValueError) as error:
        return error


def _scored(
    pipe: Any, buffer: list[tuple[str, Any]], batch_seconds: float, max_megabytes: float, embeddings: bool
) -> Iterator[dict[str, Any]]:
    from ser.data.batching import fill_by_duration

    answers: list[dict[str, Any]] = [{}] * len(buffer)
    rate_hz = pipe.feature_extractor.sampling_rate
    lengths = np.array([len(wave) if isinstance(wave, np.ndarray) else -1 for _, wave in buffer]) / rate_hz
    order = np.argsort(lengths, kind="stable")
    for batch in fill_by_duration(order[lengths[order] >= 0], lengths, batch_seconds):
        waves = [{"array": buffer[row][1], "sampling_rate": rate_hz, "path": buffer[row][0]} for row in batch]
        for row, outcome in zip(batch, _outcomes_of(pipe, waves, embeddings), strict=True):
            answers[row] = _answer(buffer[row][0], outcome, embeddings)
    for row, (file, outcome) in enumerate(buffer):
        if isinstance(outcome, Exception):
            answers[row] = _answer(file, outcome, embeddings)
        elif outcome is None:
            answers[row] = _answer(file, _outcome_of_long(pipe, file, max_megabytes, embeddings), embeddings)
    yield from answers


def _answer(file: str, outcome: Any, embeddings: bool) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"file": file, "error": reason(outcome, file)}
    return {"file": file, "embedding" if embeddings else "scores": outcome}


def _outcomes_of(pipe: Any, waves: list[dict[str, Any]], embeddings: bool) -> list[Any]:
    """Scores or vector of each wave of a batch, or its error: after an error of the batch, each wave alone."""
    try:
        found = pipe(waves, batch_size=len(waves), return_embedding=embeddings)
        for scores in () if embeddings else found:
            check_finite(scores)
        return found
    except ValueError as error:
        if len(waves) == 1:
            return [error]
        return [_outcomes_of(pipe, [wave], embeddings)[0] for wave in waves]


def check_finite(scores: Iterable[dict[str, Any]]) -> None:
    """Refuses scores that are no numbers: neither JSON nor a reader can use them.

    Raises:
        ValueError: A score is NaN or infinite.
    """
    for score in scores:
        if not math.isfinite(score["score"]):
            raise ValueError(f"the model's score for {score['label']} is {score['score']}; its weights are damaged.")


def _outcome_of_long(pipe: Any, file: str, max_megabytes: float, embeddings: bool) -> Any:
    try:
        with local_copy(file, max_megabytes) as path:
            found = pipe(path, return_embedding=embeddings)
        if not embeddings:
            check_finite(found)
        return found
    except (OSError, ValueError) as error:
        return error

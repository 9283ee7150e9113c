"""Scores many recordings: decodes ahead, batches by length, reports unreadable ones apart."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ser.cores import CORE_BATCH_SECONDS, map_on_cores
from ser.inference.download import MAX_MEGABYTES, local_copy
from ser.inference.loading import is_exact_in_batches

# Recordings are sorted by length within this many seconds of audio; as 16 kHz float32 it takes 64 MB.
_BUFFER_SECONDS = 1000.0
_DECODERS = 4
# Seconds of audio in a batch.
_GPU_BATCH_SECONDS = 256.0
# A file and its wave `[T]`, None where it is too long for memory, or the error.
Decoded = tuple[str, np.ndarray | Exception | None]


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
        batch_seconds: Seconds of audio in a batch, padding counted; by default 256 on a GPU and 8 on a CPU, where each
            core has a batch of its own (`benchmarks/bench_infer.py`). A stock model, whose scores depend on the batch,
            always takes one recording at a time.
        max_megabytes: A larger download is refused.
        embeddings: Whether to give the pooled vector of each recording in place of its scores.

    Yields:
        In the order of `files`: `{"file", "scores"}` or `{"file", "embedding"}` with what the pipeline returns, or
        `{"file", "error"}`.
    """
    for buffer in decoded_buffers(pipe, files, max_megabytes):
        yield from scored_recordings(pipe, buffer, batch_seconds, max_megabytes, embeddings)


def decoded_buffers(pipe: Any, files: Iterable[str], max_megabytes: float) -> Iterator[list[Decoded]]:
    """Decodes recordings ahead, in parts of up to a thousand, or of a thousand seconds.

    Args:
        pipe: A `SERPipeline`; its weights are not used.

    Yields:
        Lists for [`scored_recordings`].
    """
    rate_hz = pipe.feature_extractor.sampling_rate
    buffer: list[Decoded] = []
    seconds = 0.0
    for file, outcome in _decoded(pipe, files, max_megabytes):
        buffer.append((file, outcome))
        seconds += len(outcome) / rate_hz if isinstance(outcome, np.ndarray) else 0.0
        if seconds >= _BUFFER_SECONDS or len(buffer) >= 1000:
            yield buffer
            buffer, seconds = [], 0.0
    if buffer:
        yield buffer


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


def _decoded(pipe: Any, files: Iterable[str], max_megabytes: float) -> Iterator[Decoded]:
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


def scored_recordings(
    pipe: Any,
    buffer: list[Decoded],
    batch_seconds: float | None,
    max_megabytes: float,
    embeddings: bool = False,
) -> Iterator[dict[str, Any]]:
    """Classifies decoded recordings, in batches of similar length.

    Args:
        pipe, batch_seconds, max_megabytes, embeddings: As [`predict`] takes them.

    Yields:
        What [`predict`] yields, in the order of `buffer`.
    """
    from ser.data.batching import fill_by_duration

    if batch_seconds is None:
        batch_seconds = CORE_BATCH_SECONDS if pipe.device.type == "cpu" else _GPU_BATCH_SECONDS
    if not is_exact_in_batches(pipe):
        batch_seconds = 0.0
    answers: list[dict[str, Any]] = [{}] * len(buffer)
    rate_hz = pipe.feature_extractor.sampling_rate
    lengths = np.array([len(wave) if isinstance(wave, np.ndarray) else -1 for _, wave in buffer]) / rate_hz
    order = np.argsort(lengths, kind="stable")
    # The longest first: the cores then end at about the same time.
    batches = fill_by_duration(order[lengths[order] >= 0], lengths, batch_seconds)[::-1]

    def outcomes_of(batch: list[int]) -> list[Any]:
        waves = [{"array": buffer[row][1], "sampling_rate": rate_hz, "path": buffer[row][0]} for row in batch]
        return _outcomes_of(pipe, waves, embeddings)

    found = (map_on_cores if _is_work_for_each_core(pipe, batches) else map)(outcomes_of, batches)
    for batch, outcomes in zip(batches, found, strict=True):
        for row, outcome in zip(batch, outcomes, strict=True):
            answers[row] = _answer(buffer[row][0], outcome, embeddings)
    for row, (file, outcome) in enumerate(buffer):
        if isinstance(outcome, Exception):
            answers[row] = _answer(file, outcome, embeddings)
        elif outcome is None:
            answers[row] = _answer(file, _outcome_of_long(pipe, file, max_megabytes, embeddings), embeddings)
    yield from answers


def _is_work_for_each_core(pipe: Any, batches: list[list[int]]) -> bool:
    """Whether each core gets a batch of its own. Few batches are computed one after the other, each by all cores."""
    import torch

    is_torch_on_cpu = isinstance(pipe.model, torch.nn.Module) and pipe.device.type == "cpu"
    return is_torch_on_cpu and len(batches) >= 2 * torch.get_num_threads() > 2


def _answer(file: str, outcome: Any, embeddings: bool) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return {"file": file, "error": reason(outcome, file)}
    return {"file": file, "embedding" if embeddings else "scores": outcome}


def _outcomes_of(pipe: Any, waves: list[dict[str, Any]], embeddings: bool) -> list[Any]:
    """Scores or vector of each wave of a batch, or its error: after an error of the batch, each wave alone."""
    try:
        found = pipe(waves, batch_size=len(waves), **_asked(embeddings))
        for scores in () if embeddings else found:
            check_finite(scores)
        return found
    except ValueError as error:
        if len(waves) == 1:
            return [error]
        return [_outcomes_of(pipe, [wave], embeddings)[0] for wave in waves]


def _asked(embeddings: bool) -> dict[str, bool]:
    """The argument that asks our pipeline for vectors; transformers' own does not know it."""
    return {"return_embedding": True} if embeddings else {}


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
            found = pipe(path, **_asked(embeddings))
        if not embeddings:
            check_finite(found)
        return found
    except (OSError, ValueError) as error:
        return error

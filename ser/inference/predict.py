"""`ser predict`: from the arguments of the command line to its exit code."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ser.files import held_by_this_process
from ser.freed_memory import keep_freed_memory
from ser.inference.download import MAX_MEGABYTES
from ser.inference.embeddings import SUFFIXES, write_embeddings
from ser.inference.output_formats import (
    FORMATS,
    TIMELINE_FORMATS,
    answer_columns,
    stored,
    text_of,
    write_parquet,
    write_pieces,
    write_pieces_to,
)
from ser.inference.recordings import check_output, find_recordings, printable
from ser.inference.shards import LOCK, claim_shard_folder, files_in_shards, weights_hash, write_shards
from ser.progress import is_terminal, progress_of


@dataclass(frozen=True)
class Request:
    """The arguments of `ser predict`.

    Attributes:
        paths: Files, folders, globs, URLs; `-` for a list on stdin.
        format: One of `FORMATS`.
        output: A file; with `resume` or `ray` a folder of shards; None for stdout.
        overwrite: Whether `output` may be replaced.
        resume: Whether `output` is a folder of shards, to be completed.
        timeline: Whether to give scores over time.
        window_seconds, hop_seconds: Of the timeline; the pipeline's own by default.
        batch_seconds: Seconds of audio in a batch.
        max_megabytes: A larger download is refused.
        embeddings: A file for the pooled vectors, which are then given in place of scores.
        ray: `local`, `auto` or the address of a Ray cluster; None to score in this process.
        actors: Number of actors that score on the cluster; by default one a GPU, or a core.
        device: Of the model; by default a GPU where there is one.
        debug: Whether to show what the cluster logs.
    """

    paths: list[str]
    format: str = "table"
    output: Path | None = None
    overwrite: bool = False
    resume: bool = False
    timeline: bool = False
    window_seconds: float | None = None
    hop_seconds: float | None = None
    batch_seconds: float | None = None
    max_megabytes: float = MAX_MEGABYTES
    embeddings: Path | None = None
    ray: str | None = None
    actors: int | None = None
    device: str | None = None
    debug: bool = False

    @property
    def in_shards(self) -> bool:
        return self.resume or self.ray is not None

    @property
    def target(self) -> Path:
        """`output` where [`check`] asks for one."""
        if self.output is None:
            raise ValueError("--output: is missing.")
        return self.output

    @property
    def cutting(self) -> dict[str, float]:
        given = {"window_seconds": self.window_seconds, "hop_seconds": self.hop_seconds}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def is_timeline(self) -> bool:
        return self.timeline or bool(self.cutting) or self.format in TIMELINE_FORMATS

    def check(self) -> None:
        """Checks the flags, before a model is loaded.

        Raises:
            OSError, ValueError: A flag is wrong, or the output exists.
        """
        if self.format not in FORMATS:
            raise ValueError(f"--format: {self.format!r} is not one of {', '.join(FORMATS)}.")
        if self.in_shards:
            self._check_shards("--resume" if self.ray is None else "--ray")
        if self.format == "parquet" and self.output is None:
            raise ValueError("--format parquet: needs --output and a file.")
        started = int(os.environ.get("WORLD_SIZE", 1))
        if started > 1:
            raise ValueError(
                f"ser predict was started in {started} processes (WORLD_SIZE), and each would score every file. "
                "Start one; for many workers, GPUs or machines add --ray."
            )
        if not self.max_megabytes > 0:
            raise ValueError(f"--max-megabytes: {self.max_megabytes} is not above 0.")
        if self.batch_seconds is not None and not self.batch_seconds > 0:
            raise ValueError(f"--batch-seconds: {self.batch_seconds} is not above 0.")
        if self.actors is not None and (self.ray is None or self.actors < 1):
            raise ValueError(f"--ray-actors: {self.actors}; it needs --ray, and a number of 1 or more.")
        if self.embeddings is not None:
            self._check_embeddings(self.embeddings)
        if not self.in_shards:
            check_output(self.output, self.overwrite)

    def _check_shards(self, flag: str) -> None:
        if self.output is None:
            raise ValueError(f"{flag}: needs --output and a folder for the shards.")
        if self.format not in ("table", "parquet"):
            raise ValueError(f"--format: {self.format} cannot be used with {flag}, which writes Parquet.")
        if self.output.is_file():
            raise ValueError(f"--output: {self.output} is a file; {flag} needs a folder.")
        if self.ray is not None and (self.device or "").startswith("cuda:"):
            raise ValueError(f"--device: {self.device}, but Ray gives each actor its GPU; use --device cuda.")

    def _check_embeddings(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--embeddings: {path} must end in {' or '.join(SUFFIXES)}.")
        others = {"--format": self.format != "table", "--output": self.output is not None}
        others |= {"--resume": self.resume, "--ray": self.ray is not None, "--timeline": self.is_timeline}
        for flag in (flag for flag, is_given in others.items() if is_given):
            raise ValueError(f"{flag}: --embeddings writes vectors in place of scores; remove one of the two.")
        check_output(path, self.overwrite, "--embeddings")


def run(request: Request, load: Callable[..., Any]) -> int:
    """Answers a request.

    Args:
        load: Makes the `SERPipeline` on a device and, if given, with so many threads; not called when the request is
            refused.

    Returns:
        0, or 1 where a recording could not be used; those are listed on stderr.

    Raises:
        OSError, ValueError: Nothing was done.
    """
    request.check()
    if "-" in request.paths and hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # names are bytes, and not all of them UTF-8
    files = find_recordings(request.paths, sys.stdin)
    if request.format == "srt" and len(files) != 1:
        raise ValueError(f"--format srt: takes one recording, {len(files)} were given; use rttm or csv for several.")
    keep_freed_memory()
    pipe = load(request.device if request.ray is None else "cpu")
    if request.embeddings is not None:
        return _run_embeddings(request, request.embeddings, files, pipe)
    labels = [pipe.model.config.id2label[index] for index in range(pipe.model.config.num_labels)]
    columns = answer_columns(labels, request.is_timeline, pipe.model.config.problem_type == "regression")
    if request.in_shards:
        return _run_in_shards(request, files, pipe, columns, load)
    bad: dict[str, str] = {}
    good = _without_bad(_progress(_answers(request, files, pipe), len(files), request), bad)
    first = next(good, None)
    if first is not None:
        _write(request, chain([first], good), columns)
    report(bad, len(files))
    return 1 if bad else 0


def _run_embeddings(request: Request, path: Path, files: list[str], pipe: Any) -> int:
    from ser.inference.scoring import predict

    if not hasattr(pipe.model, "embed"):
        raise ValueError("--embeddings: this model has no pooled vector: a stock model or an ONNX file; use our model.")
    bad: dict[str, str] = {}
    answers = predict(pipe, files, request.batch_seconds, request.max_megabytes, embeddings=True)
    good = _without_bad(_progress(answers, len(files), request), bad)
    count, size = write_embeddings(good, files, path)
    if count:
        print(f"{path}: {count} vectors of {size} values")
    report(bad, len(files))
    return 1 if bad else 0


def _answers(request: Request, files: Iterable[str], pipe: Any) -> Iterator[dict[str, Any]]:
    from ser.inference.scoring import predict, predict_timelines

    if request.is_timeline:
        return predict_timelines(pipe, files, request.max_megabytes, **request.cutting)
    return predict(pipe, files, request.batch_seconds, request.max_megabytes)


def _without_bad(answers: Iterable[dict[str, Any]], bad: dict[str, str]) -> Iterator[dict[str, Any]]:
    for answer in answers:
        if "error" in answer:
            bad[answer["file"]] = answer["error"]
        else:
            yield answer


def _write(request: Request, answers: Iterator[dict[str, Any]], columns: list[str]) -> None:
    if request.format == "parquet":
        write_parquet(answers, columns, request.target)
    elif request.output is not None:
        write_pieces_to(text_of(answers, request.format, columns), request.output)
    else:
        try:
            write_pieces(text_of(answers, request.format, columns), sys.stdout)
        except BrokenPipeError:  # `| head` closed the pipe; without this, Python reports it again when it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_in_shards(request: Request, files: list[str], pipe: Any, columns: list[str], load: Callable[..., Any]) -> int:
    lengths = {"window_seconds": request.window_seconds, "hop_seconds": request.hop_seconds}
    settings = {"model": weights_hash(pipe.model), "columns": columns, **lengths}
    with held_by_this_process(request.target / LOCK, f"--output: {request.target}"):
        claim_shard_folder(request.target, settings)
        done = files_in_shards(request.target)
        bad = {file: error for file in files if (error := done.get(stored(file))) is not None}
        left = [file for file in files if stored(file) not in done]
        if request.ray is None:
            answers = _answers(request, left, pipe)
        else:
            from ser.inference import on_ray

            answers = on_ray.answers(request, left, pipe, load)
        shown = _progress(answers, len(left), request)
        for _ in _without_bad(write_shards(shown, columns, request.target), bad):
            pass
    report(bad, len(files))
    return 1 if bad else 0


def report(bad: dict[str, str], total: int) -> None:
    """Lists the recordings that could not be used on stderr, a line each."""
    if total == 1 or not bad:
        lines = [f"{printable(file)}: {printable(error)}" for file, error in bad.items()]
    else:
        lines = [f"{len(bad)} of {total} recordings could not be used:"]
        lines += [f"  {printable(file)}: {printable(error)}" for file, error in bad.items()]
    for line in lines:
        print(line, file=sys.stderr)


def _progress(answers: Iterable[dict[str, Any]], total: int, request: Request) -> Iterable[dict[str, Any]]:
    if request.ray is not None and not is_terminal():
        return _counted(answers, total)
    from tqdm import tqdm

    # Answers on the same terminal show the progress themselves.
    is_scrolling = request.output is None and sys.stdout.isatty()
    is_wanted = sys.stderr.isatty() and not is_scrolling and total > 1
    return tqdm(answers, total=total, unit="file", disable=not is_wanted)


def _counted(answers: Iterable[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """The answers; a line now and then says how many there are, for the log of a job."""
    with progress_of(total, "file", "ser predict") as progress:
        for answer in answers:
            progress.update()
            yield answer

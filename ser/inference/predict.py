"""`ser predict`: from the arguments of the command line to its exit code."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

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
from ser.inference.shards import (
    claim_shard_folder,
    files_in_shards,
    processes,
    share_of,
    total_of_all,
    weights_hash,
    write_shards,
)


@dataclass(frozen=True)
class Request:
    """The arguments of `ser predict`.

    Attributes:
        paths: Files, folders, globs, URLs; `-` for a list on stdin.
        format: One of `FORMATS`.
        output: A file; with `resume` a folder of shards; None for stdout.
        overwrite: Whether `output` may be replaced.
        resume: Whether `output` is a folder of shards, to be completed.
        timeline: Whether to give scores over time.
        window_seconds, hop_seconds: Of the timeline; the pipeline's own by default.
        batch_seconds: Seconds of audio in a batch.
        max_megabytes: A larger download is refused.
        embeddings: A file for the pooled vectors, which are then given in place of scores.
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
        if self.resume and self.output is None:
            raise ValueError("--resume: needs --output and a folder for the shards.")
        if self.resume and self.format not in ("table", "parquet"):
            raise ValueError(f"--format: {self.format} cannot be used with --resume, which writes Parquet.")
        if self.resume and self.output is not None and self.output.is_file():
            raise ValueError(f"--output: {self.output} is a file; --resume needs a folder.")
        if self.format == "parquet" and self.output is None:
            raise ValueError("--format parquet: needs --output and a file.")
        if processes()[1] > 1 and not self.resume:
            raise ValueError("--resume: several processes need it, and --output with a folder.")
        if not self.max_megabytes > 0:
            raise ValueError(f"--max-megabytes: {self.max_megabytes} is not above 0.")
        if self.embeddings is not None:
            self._check_embeddings(self.embeddings)
        if not self.resume:
            check_output(self.output, self.overwrite)

    def _check_embeddings(self, file: Path) -> None:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--embeddings: {file} must end in {' or '.join(SUFFIXES)}.")
        others = {"--format": self.format != "table", "--output": self.output is not None, "--resume": self.resume}
        for flag, is_given in {**others, "--timeline": self.is_timeline}.items():
            if is_given:
                raise ValueError(f"{flag}: --embeddings writes vectors in place of scores; remove one of the two.")
        check_output(self.embeddings, self.overwrite, "--embeddings")


def run(request: Request, load: Callable[[], Any]) -> int:
    """Answers a request.

    Args:
        load: Makes the `SERPipeline`; not called when the request is refused.

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
    pipe = load()
    if request.embeddings is not None:
        return _run_embeddings(request, request.embeddings, files, pipe)
    labels = [pipe.model.config.id2label[index] for index in range(pipe.model.config.num_labels)]
    columns = answer_columns(labels, request.is_timeline, pipe.model.config.problem_type == "regression")
    if request.resume and request.output is not None:
        return _run_resumed(request, request.output, files, pipe, columns)
    bad: dict[str, str] = {}
    good = _without_bad(_progress(_answers(request, files, pipe), len(files), request), bad)
    first = next(good, None)
    if first is not None:
        _write(request, chain([first], good), columns)
    report(bad, len(files))
    return 1 if bad else 0


def _run_embeddings(request: Request, output: Path, files: list[str], pipe: Any) -> int:
    from ser.inference.scoring import predict

    if not hasattr(pipe.model, "embed"):
        raise ValueError("--embeddings: this model has no pooled vector: a stock model or an ONNX file; use our model.")
    bad: dict[str, str] = {}
    answers = predict(pipe, files, request.batch_seconds, request.max_megabytes, embeddings=True)
    good = _without_bad(_progress(answers, len(files), request), bad)
    count, size = write_embeddings(good, files, output)
    if count:
        print(f"{output}: {count} vectors of {size} values")
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
    if request.format == "parquet" and request.output is not None:
        write_parquet(answers, columns, request.output)
    elif request.output is not None:
        write_pieces_to(text_of(answers, request.format, columns), request.output)
    else:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without the letters of a name
        try:
            write_pieces(text_of(answers, request.format, columns), sys.stdout)
        except BrokenPipeError:  # `| head` closed the pipe; without this, Python reports it again when it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_resumed(request: Request, folder: Path, files: list[str], pipe: Any, columns: list[str]) -> int:
    rank, world_size = processes()
    lengths = {"window_seconds": request.window_seconds, "hop_seconds": request.hop_seconds}
    settings = {"model": weights_hash(pipe.model), "columns": columns, **lengths}
    claim_shard_folder(folder, settings)
    files = share_of(files, rank, world_size)
    done = files_in_shards(folder)
    bad = {file: error for file in files if (error := done.get(stored(file))) is not None}
    left = [file for file in files if stored(file) not in done]
    answers = _progress(_answers(request, left, pipe), len(left), request)
    for _ in _without_bad(write_shards(answers, columns, folder), bad):
        pass
    report(bad, len(files))
    return 1 if total_of_all(len(bad)) else 0


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
    from tqdm import tqdm

    # Answers on the same terminal show the progress themselves.
    is_scrolling = request.output is None and sys.stdout.isatty()
    is_wanted = sys.stderr.isatty() and not is_scrolling and total > 1 and processes()[0] == 0
    return tqdm(answers, total=total, unit="file", disable=not is_wanted)

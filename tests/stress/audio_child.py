"""Reads and scores the recordings that stdin names, a path a line: `audio_child.py MODEL WHOLE_RECORDING SECONDS`.

Each is answered with a line of JSON. A process of its own, so that a crash, a hang or a flood of memory ends this one
and not the test: one that computes longer than SECONDS for a recording is ended by the kernel (SIGXCPU).
"""

import contextlib
import io
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ser.inference.loading import load_pipeline
from ser.inference.predict import Request, run
from ser_model import open_audio, read_wave

# What one recording may take beside torch and the model.
MOST_BYTES = 2**30


def main(model: str, whole: str, seconds: int) -> None:
    pipe, answers = load_pipeline(model, device="cpu"), sys.stdout
    doors = {
        "read_wave": lambda path: _read(lambda: read_wave(path), path),
        "bytes": lambda path: _read(lambda: np.concatenate(list(open_audio(Path(path).read_bytes())[1])), "<bytes>"),
        "predict": lambda path: _predict(pipe, path),
    }
    for door, read in doors.items():  # imports that wait for the first recording are no part of what one takes
        assert read(whole) == "decoded", door
    _limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        path = line.rstrip("\n")
        _limit_computing(seconds)
        start, computed = time.perf_counter(), time.process_time()
        outcome = {door: _outcome(read, path) for door, read in doors.items()}
        outcome["computed_seconds"] = time.process_time() - computed
        outcome["seconds"] = time.perf_counter() - start
        outcome["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(outcome), file=answers, flush=True)


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))


def _limit_computing(seconds: int) -> None:
    """Lets this process compute for so long from now on: its own time, however many others want the cores."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, hard))


def _outcome(read: Callable[[str], str], path: str) -> str:
    try:
        return read(path)
    except BaseException as error:  # what no caller expects
        return f"broken: {type(error).__name__}: {error}"


def _read(read: Callable[[], np.ndarray], name: str) -> str:
    """ "decoded", "named", or "broken: ..." with what is wrong."""
    try:
        wave = read()
    except ValueError as error:
        return "named" if name in str(error) and "\n" not in str(error) else f"broken: names no file: {error}"
    is_wave = wave.ndim == 1 and len(wave) and np.isfinite(wave).all() and np.abs(wave).max() <= 1
    return "decoded" if is_wave else "broken: is no wave"


def _predict(pipe: Any, path: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(Request([path], format="jsonl"), lambda *_: pipe)
    if code == 0:
        scores = [score["score"] for score in json.loads(out.getvalue())["scores"]]
        return "decoded" if abs(sum(scores) - 1) < 1e-3 else f"broken: scores {scores}"
    return "named" if path in err.getvalue() and not out.getvalue() else f"broken: {err.getvalue()}"


if __name__ == "__main__":
    main(*sys.argv[1:3], int(sys.argv[3]))

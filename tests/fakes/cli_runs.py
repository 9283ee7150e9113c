"""Runs of `ser predict` within a test, and what they read and print."""

import json
from pathlib import Path

import numpy as np
import soundfile
from fakes.tiny import noise
from typer.testing import CliRunner

from ser.cli import app


def write(path: Path, wave, rate_hz: int = 16_000) -> Path:
    with open(path, "wb") as file:
        soundfile.write(file, wave, rate_hz, format=path.suffix[1:].upper())
    return path


def ser(*arguments, stdin: str | None = None):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], input=stdin)


def found(result) -> dict[str, list]:
    """Scores by file name, of a run with `--format jsonl`."""
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    return {answer["file"]: answer.get("scores", answer.get("segments")) for answer in answers}


def by_label(scores) -> dict[str, float]:
    return {score["label"]: score["score"] for score in scores}


def record(folder: Path) -> Path:
    """Writes five clips, one of them 70 s long, below two levels."""
    (folder / "b").mkdir()
    for name, seconds, seed in (("a.wav", 1, 0), ("b/b.flac", 2.5, 1), ("b/c.ogg", 0.7, 2), ("e.mp3", 1.2, 4)):
        write(folder / name, noise(seconds, seed))
    write(folder / "d.WAV", np.tile(noise(7, 3), 10))
    return folder

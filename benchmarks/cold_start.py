"""How long a user waits for the first thing to happen, in processes that start from nothing.

    python benchmarks/cold_start.py
    python benchmarks/cold_start.py --model runs/demo --clip clip.wav

Rows: `ser --help`; the imports of torch, of transformers' pipeline and of `ser_model` behind it; the first line that
`ser predict` prints for one clip (without --model: HuBERT-base in size, random weights, a clip of four seconds); the
first training step of configs/demo.yaml, on a corpus that is made first and on one that is there. Five rounds in which
the rows alternate, medians.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yardstick
from bench_ray import save_model

ROOT = Path(__file__).parents[1]
PIPELINE = "torch, transformers.pipelines.audio_classification"
# The process ends where training would take its first step, and prints nothing before.
FIRST_STEP = """
import os, sys
sys.stdout = sys.stderr
from ser.imports import after_imports, before_imports
before_imports()
import run_ser
from ser.training.trainer import SERTrainer
SERTrainer.training_step = lambda *_, **__: os._exit(0)
after_imports()
sys.exit(run_ser.main(sys.argv[1:]) or 1)
"""


def seconds_of(command: list[str]) -> float:
    """Seconds until the process prints its first line, or ends without one."""
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        process.stdout.readline()
        took = time.perf_counter() - start
        process.communicate()
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} ended with code {process.returncode}:\n{errors.read()}")
    return took


def rows_of(folder: Path, model: Path, clip: Path) -> dict[str, list[str]]:
    """The commands, by the name of their row."""
    python, ser = [sys.executable, "-c"], str(Path(sys.executable).with_name("ser"))
    step = [*python, FIRST_STEP, "configs/demo.yaml", "--output_dir", str(folder / "run"), "--cache_dir"]
    return {
        "ser --help": [ser, "--help"],
        "import torch": [*python, "import torch; print()"],
        "and transformers' pipeline": [*python, f"import {PIPELINE}; print()"],
        "and ser_model": [*python, f"import {PIPELINE}, ser_model; print()"],
        "ser predict, first answer": [ser, "predict", str(clip), "--model", str(model)],
        "demo, first step, corpus made": [*step, str(folder / "new")],
        "demo, first step, corpus there": [*step, str(folder / "there")],
    }


def main() -> None:
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a run")
    parser.add_argument("--clip", type=Path, help="an audio file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "clip.wav", yardstick.noise(4, 0), 16_000)
        clip = args.clip.absolute() if args.clip else folder / "clip.wav"
        rows = rows_of(folder, args.model.absolute() if args.model else save_model(folder / "model"), clip)
        seconds_of(rows["demo, first step, corpus there"])
        found: dict[str, list[float]] = {row: [] for row in rows}
        for number in range(5):
            print(f"round {number + 1} of 5", file=sys.stderr, flush=True)
            for row, command in rows.items():
                shutil.rmtree(folder / "new", ignore_errors=True)
                shutil.rmtree(folder / "run", ignore_errors=True)
                found[row].append(seconds_of(command))
    print("| what | seconds |\n|---|---|")
    for row, seconds in found.items():
        print(f"| {row} | {statistics.median(seconds):.2f} |")


if __name__ == "__main__":
    main()

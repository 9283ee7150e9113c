"""The time of a clip, from its wave to its scores: torch against the two files of `ser export`.

    ser export RUN && ser export RUN --int8
    python benchmarks/onnx_speed.py RUN --data_dir emodb

Clips are scored one at a time by one thread, features included. Every round scores all clips with each of the three in
turn; the table gives the median of the rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from ser.inference.loading import load_pipeline
from ser.inference.onnx_model import OnnxClassifier
from ser_model import read_wave


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="Folder of a run with model.onnx and model-int8.onnx.")
    parser.add_argument("--data_dir", required=True, help="Folder of WAV files.")
    parser.add_argument("--clips", type=int, default=40, help="How many of them, evenly spaced.")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(Path(arguments.data_dir).rglob("*.wav"))
    waves = [read_wave(path) for path in paths[:: max(1, len(paths) // arguments.clips)][: arguments.clips]]
    files = {"float ONNX": "model.onnx", "int8 ONNX": "model-int8.onnx"}
    rows = {"torch": of_torch(str(arguments.run))}
    rows |= {row: OnnxClassifier(arguments.run / file, threads=1).probabilities for row, file in files.items()}
    times: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(arguments.rounds + 1):  # the first one warms up
        for row, scores in rows.items():
            started = time.perf_counter()
            for wave in waves:
                scores([wave])
            times[row].append((time.perf_counter() - started) / len(waves))
    print(f"{len(waves)} clips of {np.mean([len(wave) for wave in waves]) / 16000:.1f} s, one thread")
    print("\n| | ms a clip | times real time |\n|---|---|---|")
    for row, seconds in times.items():
        median = statistics.median(seconds[1:])
        print(f"| {row} | {1000 * median:.1f} | {np.mean([len(w) for w in waves]) / 16000 / median:.0f} |")


def of_torch(run: str) -> Callable[[list[np.ndarray]], torch.Tensor]:
    """A function from one wave to the model's scores, without the pipeline around it."""
    pipe = load_pipeline(run, "cpu")

    @torch.inference_mode()
    def scores(waves: list[np.ndarray]) -> torch.Tensor:
        return pipe.model(**pipe._features(waves[0])).logits.softmax(-1)

    return scores


if __name__ == "__main__":
    main()

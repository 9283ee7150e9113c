"""What the speed benchmarks share: clips of ShEMO's lengths, rows in alternation, the machine's limit, the table.

A benchmark is a script that knows a few rows. Started by a user, it runs each row three times (--quick: once), in turn,
each time in a process of its own, so that rows share neither memory nor the state of a library, and takes medians.
"""

import argparse
import json
import math
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3
# The row of the machine's limit, which every benchmark has: a core's rate changes within an hour.
LIMIT = "matrix_products"
# ShEMO's clips, from its metadata: mean and deviation of their length, the shortest and the longest, in seconds.
_MEAN_SECONDS, _DEVIATION_SECONDS, _SHORTEST, LONGEST_SECONDS = 4.11, 3.41, 0.35, 33.0


def shemo_lengths(count: int, longest_seconds: float) -> list[float]:
    """Lengths in seconds, drawn from a log-normal distribution of ShEMO's mean and deviation; always the same ones.

    Args:
        longest_seconds: Longer clips are cut to it.
    """
    spread = np.log(1 + (_DEVIATION_SECONDS / _MEAN_SECONDS) ** 2)
    drawn = np.random.default_rng(0).lognormal(np.log(_MEAN_SECONDS) - spread / 2, np.sqrt(spread), count)
    return [round(float(seconds), 3) for seconds in drawn.clip(_SHORTEST, longest_seconds)]


def typical_lengths(count: int, longest_seconds: float) -> list[float]:
    """So many lengths in seconds that stand for all of ShEMO's: their quantiles, in a random order, always the same.

    A row that is slow gets through a few clips only; drawn ones could happen to be short, or to need little padding.
    """
    found = np.quantile(shemo_lengths(3000, longest_seconds), (np.arange(count) + 0.5) / count)
    return np.random.default_rng(0).permutation(found).round(3).tolist()


def noise(seconds: float, seed: int) -> np.ndarray:
    """Noise at 16 kHz, float32 `[T]`."""
    return np.random.default_rng(seed).normal(0, 0.05, int(16_000 * seconds)).astype(np.float32)


def arguments_of(doc: str) -> argparse.Namespace:
    """The flags of every speed benchmark."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one round and few clips: about three minutes on two idle cores"
    )
    parser.add_argument("--rows", help="only these, joined by commas")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(script: str, args: argparse.Namespace, rows: dict[str, Callable[[bool], dict]]) -> dict:
    """Runs every row in turn, or, in a process that was started for one, that row.

    Args:
        script: The benchmark's file.
        args: From [`arguments_of`].
        rows: By name, a function that measures, with few clips if it is given true, and returns figures.

    Returns:
        By row, the median of each figure and `peak_gb`, the memory of its process; in the row `LIMIT`, `gflops`. Empty
        in a process for one row. A row that never fits into this machine's memory is left out.
    """
    rows = {**rows, LIMIT: matrix_gflops}
    if args.row:
        peak = 1024 if sys.platform != "darwin" else 1  # the unit of ru_maxrss
        found = rows[args.row](args.quick)
        found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * peak / 1e9
        print(json.dumps(found))
        return {}
    chosen = args.rows.split(",") if args.rows else list(rows)
    if unknown := sorted(set(chosen) - set(rows)):
        sys.exit(f"--rows: {', '.join(unknown)} is not one of {', '.join(rows)}.")
    chosen += [LIMIT] if LIMIT not in chosen else []
    found: dict[str, list[dict]] = {row: [] for row in chosen}
    rounds = 1 if args.quick else ROUNDS
    for number in range(rounds):
        for row in chosen:
            print(f"round {number + 1} of {rounds}: {row}", file=sys.stderr, flush=True)
            command = [sys.executable, script, "--row", row, *["--quick"] * args.quick]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode == -signal.SIGKILL:
                print(f"{row}: killed, this machine has too little memory for it", file=sys.stderr, flush=True)
            elif done.returncode:
                raise subprocess.CalledProcessError(done.returncode, command)
            else:
                found[row].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        row: {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        for row, measured in found.items()
        if measured
    }


def matrix_gflops(_quick: bool = False) -> dict[str, float]:
    """What this machine's cores do in a product of large float32 matrices, `gflops`: the limit of any model on them."""
    import torch

    one, two = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best, end = 0.0, time.perf_counter() + 3
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(one, two)
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return {"gflops": best}


def gflop_per_second(step: Callable[[Any], None], lengths: list[float]) -> float:
    """GFLOP that `step`, which takes a wave `[1, T]`, does for one second of audio in clips of such lengths in seconds.

    The work grows with a clip's length and, in attention, with its square, so two waves tell what any clip takes.
    """
    short, long = 4.0, 16.0
    flops = [_flops(step, seconds) for seconds in (short, long)]
    linear, quadratic = np.linalg.solve([[short, short**2], [long, long**2]], flops)
    clips = np.array(lengths)
    return float(linear + quadratic * (clips**2).sum() / clips.sum()) / 1e9


def _flops(step: Callable[[Any], None], seconds: float) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    # torch 2.13 counts the gradient of grouped weights as if they had one group: 16 times too much for HuBERT's
    # convolution of positions, which would be a fifth of a training step. Attention's kernels for CPUs it leaves out.
    aten = torch.ops.aten
    counted = {
        aten.convolution_backward: _grouped_backward,
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad_out, q, k, v, *_, **__: sdpa_backward_flop_count(grad_out, q, k, v)
        ),
    }
    counter = FlopCounterMode(display=False, custom_mapping=counted)
    with counter:
        step(torch.from_numpy(noise(seconds, 0))[None])
    return counter.get_total_flops()


def _grouped_backward(grad_out, _x, weight, *rest, output_mask=None, **_) -> int:
    """FLOP of a convolution's gradients, from shapes: as many for its input, and for its weights, as its forward."""
    mask = rest[-1] if output_mask is None else output_mask
    return sum(mask[:2]) * 2 * grad_out[0] * math.prod(grad_out[2:]) * math.prod(weight)


def show(found: dict[str, dict], columns: list[str], path: Path | None, figures: dict[str, Any]) -> None:
    """Prints the table and writes the figures."""
    print("| row | " + " | ".join(column.replace("_", " ") for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row, own in found.items():
        print(f"| {row} | " + " | ".join(f"{own[key]:.3g}" if key in own else "" for key in columns) + " |")
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def show_limit(found: dict[str, dict], gflop: float, gflops: float) -> None:
    """Prints how much of the machine's limit `ours` reaches.

    Args:
        found: From [`run`].
        gflop: GFLOP of a second of audio.
        gflops: From [`matrix_gflops`].
    """
    if "ours" in found:
        share = found["ours"]["audio_seconds_a_second"] * gflop / gflops
        limit = f"{gflops:.0f} GFLOP/s in matrix products"
        print(f"\n{gflop:.1f} GFLOP a second of audio, {limit}: ours does {share:.0%} of it.")

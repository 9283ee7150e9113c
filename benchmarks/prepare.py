"""How long the preparation of ShEMO takes, the first time and from the cache.

    python benchmarks/prepare.py --index shemo/index.csv

Writes 3000 WAV files of noise with the names, lengths and rates in the index (the median for rows without length or
rate), then runs `python data_prep.py` twice, imports and plots included.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True, help="CSV with id, gender, duration_s, sampling_rate_hz")
    parser.add_argument("--num_proc", type=int, default=None, help="processes; all cores by default")
    args = parser.parse_args()
    with open(args.index, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "shemo"
        seconds = synthesise(rows, corpus)
        config = Path(folder) / "config.yaml"
        config.write_text(f"corpus: shemo\ndata_dir: {corpus}\ncache_dir: {folder}/cache\noutput_dir: {folder}/out\n")
        processes = ["--num_proc", str(args.num_proc)] if args.num_proc else []
        first, again = (timed(config, processes) for _ in range(2))
    print(f"{len(rows)} clips, {seconds / 3600:.2f} h, {args.num_proc or os.cpu_count()} processes")
    print("| run | seconds | target |\n|---|---|---|")
    print(f"| first | {first:.1f} | 60 |\n| second | {again:.1f} | 5 |")


def synthesise(rows: list[dict[str, str]], folder: Path) -> float:
    """Writes one WAV file a row; returns the seconds of audio."""
    usual = statistics.median(float(row["duration_s"]) for row in rows if row["duration_s"])
    noise = np.random.default_rng(0).normal(0, 3000, 44_100 * 40).astype("<i2")
    for gender in ("female", "male"):
        (folder / gender).mkdir(parents=True)

    def write(row: dict[str, str]) -> float:
        rate_hz, seconds = int(row["sampling_rate_hz"] or 44_100), float(row["duration_s"] or usual)
        with wave.open(str(folder / row["gender"] / f"{row['id']}.wav"), "wb") as file:
            file.setparams((1, 2, rate_hz, 0, "NONE", ""))
            file.writeframes(noise[: int(seconds * rate_hz)].tobytes())
        return seconds

    with ThreadPoolExecutor() as pool:
        return sum(pool.map(write, rows))


def timed(config: Path, flags: list[str]) -> float:
    """Wall seconds of one `python data_prep.py`, from the start of the process to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "data_prep.py"), str(config), *flags], check=True, stderr=sys.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

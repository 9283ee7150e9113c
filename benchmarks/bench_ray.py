"""A corpus on Ray: how much two actors do in the time of one, what a killed one loses, and the memory of many files.

    python benchmarks/bench_ray.py --quick
    python benchmarks/bench_ray.py --json ray.json

Each row is `ser predict --ray` in a process of its own, with actors of one core each. `speed` scores clips of ShEMO's
lengths with HuBERT-base in size (random weights), by one actor and by two in turn, three rounds, medians. Starting a
cluster takes as long for a million files as for ten, so a rate is that of 80 clips more: the seconds of a command with
120 clips less those of one with 40. `whole` is the ratio of the seconds that the longer commands take as a whole.
`kill` ends one of two actors with SIGKILL while it works. `memory` scores 100,000 files of 0.2 s (copies of one) with a
tiny model, and adds up the proportional memory (PSS) of all processes while it runs. --quick: one round of 20 and 60
clips, and 5,000 files.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yardstick

ROOT = Path(__file__).parents[1]
# Small shards show progress.
SCRIPT = "from ser.inference import shards\nshards.write_shards.__defaults__ = ({},)\nfrom ser.cli import app\napp()\n"
TINY = {
    "conv_dim": (32, 32),
    "conv_kernel": (400, 3),
    "conv_stride": (160, 2),
    "feat_extract_norm": "layer",
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def save_model(folder: Path, **shape: Any) -> Path:
    """Saves a HuBERT of random weights with a head; base in size without `shape`."""
    from transformers import HubertConfig, Wav2Vec2FeatureExtractor

    from ser_model import SERConfig, SERForAudioClassification

    SERForAudioClassification(SERConfig(backbone_config=HubertConfig(**shape), num_labels=6)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True).save_pretrained(folder)
    return folder


class Command:
    """`ser predict --ray` while it runs: its shards and its processes.

    Args:
        listed: What to score.
        model: Folder of the model.
        output: Folder of the shards.
        actors: Number of actors.
        files_in_shard: Files in a shard.
    """

    def __init__(self, listed: Path, model: Path, output: Path, actors: int, files_in_shard: int):
        self.output = output
        arguments = ["predict", listed, "--model", model, "--output", output, "--ray", "--ray-actors", actors]
        command = [sys.executable, "-c", SCRIPT.format(files_in_shard), *map(str, arguments)]
        self.process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})

    def runs(self) -> bool:
        return self.process.poll() is None

    def shards(self) -> int:
        return len(list(self.output.glob("*.parquet")))

    def tree(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def wait_for_shards(self, count: int) -> None:
        while self.shards() < count and self.runs():
            time.sleep(0.02)

    def wait(self) -> None:
        if self.process.wait():
            raise subprocess.CalledProcessError(self.process.returncode, "ser predict --ray")

    def rows(self) -> list[str]:
        return pq.read_table(self.output, columns=["file"])["file"].to_pylist()


def speed(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Seconds of audio a second by one actor and by two, and their ratio; `count` clips cost the start of a cluster."""
    import soundfile

    clips = folder / "clips"
    clips.mkdir()
    lengths = yardstick.shemo_lengths(3 * count, yardstick.LONGEST_SECONDS)
    paths = [clips / f"{number}.wav" for number in range(len(lengths))]
    for number, path in enumerate(paths):
        soundfile.write(path, yardstick.noise(lengths[number], number), 16_000)
    few, all_of_them = folder / "few.txt", folder / "all.txt"
    few.write_text("\n".join(map(str, paths[:count])))
    all_of_them.write_text("\n".join(map(str, paths)))
    model = save_model(folder / "base")
    rates: dict[int, list[float]] = {1: [], 2: []}
    whole: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for actors in rates:
            seconds = []
            for listed in (few, all_of_them):
                start = time.perf_counter()
                Command(listed, model, folder / f"{listed.stem}-{actors}-{number}", actors, 1).wait()
                seconds.append(time.perf_counter() - start)
            rates[actors].append(sum(lengths[count:]) / (seconds[1] - seconds[0]))
            whole[actors].append(seconds[1])
    one, two = (statistics.median(rates[actors]) for actors in (1, 2))
    seconds = [statistics.median(whole[actors]) for actors in (1, 2)]
    return {"one_actor": one, "two_actors": two, "ratio": two / one, "whole": seconds[0] / seconds[1]}


def kill(folder: Path) -> dict[str, Any]:
    """Files lost and written twice when one of two actors is killed; `folder` is that of [`speed`]."""
    command = Command(folder / "clips", folder / "base", folder / "kill", 2, 4)
    command.wait_for_shards(1)
    actors = [one for one in command.tree() if "_Scorer" in " ".join(one.cmdline())]
    actors[0].send_signal(signal.SIGKILL)
    command.wait()
    rows, files = command.rows(), list((folder / "clips").iterdir())
    return {"files": len(files), "lost": len(files) - len(set(rows)), "twice": len(rows) - len(set(rows))}


def memory(folder: Path, count: int) -> dict[str, Any]:
    """Memory of all processes after each tenth of the files, in MB."""
    import soundfile

    names = folder / "names"
    names.mkdir()
    soundfile.write(names / "0.wav", yardstick.noise(0.2, 0), 16_000)
    for number in range(1, count):
        shutil.copyfile(names / "0.wav", names / f"{number}.wav")
    command = Command(names, save_model(folder / "tiny", **TINY), folder / "memory", 2, count // 100)
    start, megabytes, shown = time.perf_counter(), [], 0
    while command.runs():
        if command.shards() >= 10 * (shown + 1):
            shown += 1
            megabytes.append(round(sum(pss_of(one) for one in command.tree()) / 1e6))
            print(
                f"{10 * shown} %: {megabytes[-1]} MB, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True
            )
        time.sleep(0.2)
    command.wait()
    return {"files": len(set(command.rows())), "seconds": time.perf_counter() - start, "megabytes": megabytes}


def pss_of(process: psutil.Process) -> int:
    """The memory of a process, with its part of what it shares, in bytes; 0 if it has just ended."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round and few files")
    parser.add_argument("--rows", default="speed,kill,memory", help="only these, joined by commas")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    rows, found = args.rows.split(","), {}
    if unknown := sorted(set(rows) - {"speed", "kill", "memory"}):
        parser.error(f"--rows: {', '.join(unknown)} is not one of speed, kill, memory.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "speed" in rows or "kill" in rows:
            found["speed"] = speed(folder, 20 if args.quick else 40, 1 if args.quick else 3)
        if "kill" in rows:
            found["kill"] = kill(folder)
        if "memory" in rows:
            found["memory"] = memory(folder, 5_000 if args.quick else 100_000)
    for row, figures in found.items():
        print(f"{row}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How long a corpus takes to be prepared, and how fast its clips are read, augmented and collated.

    python benchmarks/bench_data.py --quick
    python benchmarks/bench_data.py --json data.json

3,000 clips of ShEMO's lengths, 44.1 kHz WAV files of noise, on all cores. `prepare` and `prepare_again` are whole runs
of data_prep.py, imports and plots included. Then seconds of audio a second on one core: clips read; read and changed by
each transform of configs/shemo_hubert_base.yaml; read and collated; and through a DataLoader of 0, 1 and 2 workers.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import yardstick

ROOT = Path(__file__).resolve().parents[1]


def write_corpus(folder: Path, count: int) -> Path:
    """WAV files at 44.1 kHz, and the configuration of a corpus of them."""
    import soundfile

    lines = ["path,label,speaker"]
    noise = np.random.default_rng(0).normal(0, 0.05, 97 * count + 44_100 * 40).astype(np.float32)
    for index, seconds in enumerate(yardstick.shemo_lengths(count, yardstick.LONGEST_SECONDS)):
        start = 97 * index  # no two clips hold the same recording
        soundfile.write(folder / f"{index}.wav", noise[start : start + int(44_100 * seconds)], 44_100)
        lines.append(f"{index}.wav,{'anger' if index % 2 else 'neutral'},speaker{index % 80}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"corpus": "manifest", "manifest": str(folder / "clips.csv"), "output_dir": str(folder / "out")}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"cache_dir": str(folder / "cache")}), encoding="utf-8")
    return path


def seconds_of_preparation(config: Path) -> float:
    start = time.perf_counter()
    # Without the page about the corpus, which measures every clip once.
    command = [sys.executable, str(ROOT / "data_prep.py"), str(config), "--data_page", "false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def timed(batches: Callable[[], Iterator[list[float]]], seconds: float) -> float:
    """Seconds of audio a second; `batches` yields the lengths of what was just made."""
    start, audio = time.perf_counter(), 0.0
    for lengths in batches():
        audio += sum(lengths)
        if time.perf_counter() - start > seconds:
            break
    return audio / (time.perf_counter() - start)


def reading_rates(config: Path, seconds: float) -> dict[str, float]:
    """Seconds of audio a second on one core, by what is done with a clip."""
    from torch.utils.data import DataLoader
    from transformers import Wav2Vec2FeatureExtractor

    from data_prep import load_corpus
    from ser.data.augment import build_augmentation
    from ser.data.batching import Clips, Collator
    from ser.data.data_arguments import read_data_arguments

    dataset = load_corpus(read_data_arguments([str(config)])[0])
    recipe = yaml.safe_load((ROOT / "configs" / "shemo_hubert_base.yaml").read_text(encoding="utf-8"))
    labels, lengths = dataset["emotion"][:], dataset["duration"][:]
    collator = Collator(Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True))

    def clips(augmentations: list[dict[str, Any]]) -> Clips:
        specification = json.dumps(augmentations) if augmentations else None
        return Clips(dataset, labels, build_augmentation(specification), 0, 12.0)

    def one_by_one(augmentations: list[dict[str, Any]]) -> Callable[[], Iterator[list[float]]]:
        own = clips(augmentations)
        return lambda: ([len(own[index, 0, 0]["wave"]) / 16_000] for index in range(len(own)))

    def collated() -> Iterator[list[float]]:
        own = clips([])
        for first in range(0, len(own) - 8, 8):
            rows = [own[index, 0, 0] for index in range(first, first + 8)]
            collator(rows)
            yield [len(row["wave"]) / 16_000 for row in rows]

    found = {"read": timed(one_by_one([]), seconds)}
    for entry in recipe["augmentations"]:
        found[entry["name"]] = timed(one_by_one([entry | {"p": 1.0}]), seconds)
    found["read and collated"] = timed(collated, seconds)
    for workers in (0, 1, 2):
        order = [[(index, 0, 0) for index in range(first, first + 8)] for first in range(0, len(lengths) - 8, 8)]
        sizes = ([min(lengths[index], 12.0) for index, *_ in batch] for batch in order)
        loader = DataLoader(
            clips(recipe["augmentations"]), batch_sampler=order, collate_fn=collator, num_workers=workers
        )
        pairs = zip(loader, sizes, strict=True)
        found[f"all, {workers} workers"] = timed(lambda pairs=pairs: (own for _, own in pairs), seconds)
    return found


def main() -> None:
    args = yardstick.arguments_of(__doc__)
    count, seconds = 3000, 3.0 if args.quick else 10.0
    with tempfile.TemporaryDirectory() as folder:
        config = write_corpus(Path(folder), count)
        figures = {name: seconds_of_preparation(config) for name in ("prepare", "prepare_again")}
        figures["audio_seconds"] = sum(yardstick.shemo_lengths(count, yardstick.LONGEST_SECONDS))
        rates = reading_rates(config, seconds)
    print(f"{count} clips, {figures['audio_seconds'] / 3600:.2f} h\n\n| run | seconds |\n|---|---|")
    print(f"| prepare | {figures['prepare']:.1f} |\n| prepare again | {figures['prepare_again']:.1f} |\n")
    print("| on one core | seconds of audio a second |\n|---|---|")
    print("\n".join(f"| {name} | {rate:.0f} |" for name, rate in rates.items()))
    if args.json:
        args.json.write_text(json.dumps(figures | {"rates": rates}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What probing costs: five folds and three seeds against one bare pass of the backbone over the same clips.

    python benchmarks/probe.py --data_dir emodb

HuBERT-base with random weights, EMO-DB's 535 clips, prepared beforehand. The bare pass is the stock model without
gradient over the clips sorted by length, in batches of 16 seconds. The first run makes the statistics of the backbone,
the second finds them in the cache. Each row is a process of its own; its seconds are those of the whole command, from
the start of Python to its end.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_prep import load_corpus
from ser.data.data_arguments import DataArguments

BATCH_SECONDS = 16.0  # of the bare pass: larger batches are slower on a CPU
ROOT = Path(__file__).parents[1]


def corpus(args: argparse.Namespace) -> DataArguments:
    return DataArguments(corpus="emodb", data_dir=args.data_dir, cache_dir=str(args.folder / "cache"))


def make_backbone(folder: Path) -> None:
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder / "hubert")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "hubert")


def bare_pass(args: argparse.Namespace) -> None:
    """One sorted pass of the stock model."""
    import numpy as np
    import torch
    from transformers import HubertModel, Wav2Vec2FeatureExtractor

    from ser.data.batching import Clips, Collator, fill_by_duration

    dataset = load_corpus(corpus(args))
    clips = Clips(dataset, dataset["emotion"])
    backbone = HubertModel.from_pretrained(args.folder / "hubert").eval()
    collator = Collator(Wav2Vec2FeatureExtractor.from_pretrained(args.folder / "hubert"))
    lengths = clips.lengths_seconds()
    with torch.inference_mode():
        for rows in fill_by_duration(np.argsort(lengths, kind="stable"), lengths, BATCH_SECONDS):
            batch = collator([clips[int(row)] for row in rows])
            backbone(batch["input_values"], attention_mask=batch["attention_mask"])


def seconds_of(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, type=lambda path: str(Path(path).absolute()))
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # given to the process of the bare pass
    args = parser.parse_args()
    if args.folder:
        bare_pass(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        make_backbone(args.folder)
        dataset = load_corpus(corpus(args))
        bare = [__file__, "--data_dir", args.data_dir, "--folder", folder]
        flags = ["--corpus", "emodb", "--splits_file", "", "--data_dir", args.data_dir, "--use_cpu", "true"]
        flags += ["--num_folds", "5", "--fold", "all", "--seeds", "13,21,42", "--cache_dir", f"{folder}/cache"]
        flags += ["--model_name_or_path", f"{folder}/hubert"]
        run = ["run_ser.py", "configs/shemo_hubert_base.yaml", "configs/recipes/probe.yaml", *flags, "--output_dir"]
        seconds = {"bare sorted pass": seconds_of(bare)}
        seconds |= {f"{name} run": seconds_of([*run, f"{folder}/{name}"]) for name in ("first", "second")}
    print(f"\n{len(dataset)} clips, {sum(dataset['duration']):.0f} s of audio\n\n| what | seconds |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} |")
    print(f"\nThe first run takes {seconds['first run'] / seconds['bare sorted pass']:.2f} times the bare pass.")


if __name__ == "__main__":
    main()

"""What probing costs: five folds and three seeds against one bare pass of the backbone over the same clips.

    python benchmarks/probe.py --data_dir emodb

HuBERT-base with random weights, EMO-DB's 535 clips. The bare pass is the stock model without gradient over the clips
sorted by length, in batches of the same seconds. The first run makes the statistics of the backbone, the second finds
them in the cache.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

import run_ser
from data_prep import load_corpus
from ser.data.batching import Clips, Collator, fill_by_duration
from ser.data.data_arguments import DataArguments
from ser.imports import after_imports

BATCH_SECONDS = 16.0  # of the bare pass: larger batches are slower on a CPU
ROOT = Path(__file__).parents[1]


def bare_pass(backbone: HubertModel, clips: Clips, collator: Collator) -> float:
    """Seconds of one sorted pass of the stock model."""
    lengths, started = clips.lengths_seconds(), time.monotonic()
    with torch.inference_mode():
        for rows in fill_by_duration(np.argsort(lengths, kind="stable"), lengths, BATCH_SECONDS):
            batch = collator([clips[int(row)] for row in rows])
            backbone(batch["input_values"], attention_mask=batch["attention_mask"])
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    args = parser.parse_args()
    after_imports()  # as run_ser.py does it
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    backbone = HubertModel(HubertConfig()).eval()
    backbone.save_pretrained(folder / "hubert")
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    extractor.save_pretrained(folder / "hubert")
    dataset = load_corpus(DataArguments(corpus="emodb", data_dir=args.data_dir))
    seconds = {"bare sorted pass": bare_pass(backbone, Clips(dataset, dataset["emotion"]), Collator(extractor))}
    flags = ["--corpus", "emodb", "--splits_file", "", "--data_dir", args.data_dir, "--use_cpu", "true"]
    flags += ["--num_folds", "5", "--fold", "all", "--seeds", "13,21,42"]
    paths = ["--model_name_or_path", str(folder / "hubert"), "--cache_dir", str(folder / "cache")]
    configs = [str(ROOT / "configs" / name) for name in ("shemo_hubert_base.yaml", "recipes/probe.yaml")]
    # The corpus is prepared beforehand: what is measured is the probe.
    load_corpus(DataArguments(corpus="emodb", data_dir=args.data_dir, cache_dir=str(folder / "cache")))
    for name in ("first run", "second run"):
        started = time.monotonic()
        code = run_ser.main([*configs, *flags, *paths, "--output_dir", str(folder / name.replace(" ", "_"))])
        seconds[name] = time.monotonic() - started
        assert code == 0
    shutil.rmtree(folder)
    print(f"\n{len(dataset)} clips, {sum(dataset['duration']):.0f} s of audio\n\n| what | seconds |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.1f} |")


if __name__ == "__main__":
    main()

"""How much a clip's scores depend on its batch: transformers' own classifiers against ours, with the same weights.

    python benchmarks/exactness.py --index shemo/index.csv

Random weights in each backbone's base shape, 16 clips of lengths drawn from ShEMO's, filled with noise. Prints the
largest difference of a logit between a clip alone and the same clip in the batch of 16.
"""

import argparse
import csv
import random

import torch
from transformers import (
    AutoModelForAudioClassification,
    Data2VecAudioConfig,
    HubertConfig,
    Wav2Vec2Config,
    WavLMConfig,
)

from ser_model import SERConfig, SERForAudioClassification

LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
FAMILIES = {
    "HuBERT-base": HubertConfig(),
    "DistilHuBERT": HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False),
    "wav2vec2-base": Wav2Vec2Config(),
    "wav2vec2, layer norm": Wav2Vec2Config(**LAYER_NORM),
    "WavLM-base": WavLMConfig(),
    "data2vec-audio-base": Data2VecAudioConfig(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True, help="CSV with the column duration_s")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--max_seconds", type=float, default=12.0, help="leave out longer clips, which cost minutes")
    args = parser.parse_args()
    with open(args.index, newline="") as file:
        seconds = [float(row["duration_s"]) for row in csv.DictReader(file) if row["duration_s"]]
    seconds = random.Random(0).sample([s for s in seconds if s <= args.max_seconds], args.clips)
    torch.manual_seed(0)
    waves = [torch.randn(int(16000 * s)) for s in seconds]
    values, mask = torch.zeros(len(waves), max(map(len, waves))), torch.zeros(len(waves), max(map(len, waves)))
    for row, wave in enumerate(waves):
        values[row, : len(wave)], mask[row, : len(wave)] = wave, 1
    print(f"{args.clips} clips of {min(seconds):.1f} to {max(seconds):.1f} s\n")
    print("| backbone | stock | ours |\n|---|---|---|")
    for name, config in FAMILIES.items():
        torch.manual_seed(0)
        config.num_labels = 6
        stock = AutoModelForAudioClassification.from_config(config).eval()
        ours = SERForAudioClassification(SERConfig(backbone_config=config, num_labels=6)).eval()
        ours.backbone.load_state_dict(stock.base_model.state_dict())
        figures = (moved(model, waves, values, mask.long()) for model in (stock, ours))
        print(f"| {name} | " + " | ".join(f"{figure:.1e}" for figure in figures) + " |", flush=True)


@torch.no_grad()
def moved(model: torch.nn.Module, waves: list, values: torch.Tensor, mask: torch.Tensor) -> float:
    """Largest difference of a logit between a clip alone and the clip in the batch."""
    together = model(values, attention_mask=mask).logits
    alone = torch.cat([model(wave[None], attention_mask=torch.ones_like(wave[None]).long()).logits for wave in waves])
    return (together - alone).abs().max().item()


if __name__ == "__main__":
    main()

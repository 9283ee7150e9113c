"""The effect of leaving out the padding after a clip in Whisper's encoder: seconds, and how much the states change.

    python benchmarks/whisper_window.py --data_dir emodb

Random weights in the shape of whisper-tiny and whisper-small: pretrained weights may behave differently. Clips are
processed one at a time; a clip's state is the mean of a layer over its own frames. Computing the features is not
timed, since both compute 30 s of them.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from ser_model import SERConfig, SERForAudioClassification, new_feature_extractor, read_wave

SHAPES = {
    "tiny": {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536},
    "small": {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="Folder of WAV files.")
    parser.add_argument("--clips", type=int, default=8, help="How many of them, evenly spaced.")
    arguments = parser.parse_args()
    paths = sorted(Path(arguments.data_dir).rglob("*.wav"))
    waves = [read_wave(path) for path in paths[:: max(1, len(paths) // arguments.clips)][: arguments.clips]]
    torch.set_num_threads(1)
    print(f"{len(waves)} clips of {np.mean([len(wave) for wave in waves]) / 16000:.1f} s, CPU seconds of one thread")
    print("\n| shape | full window, s a clip | cut, s a clip | moves by | cosine | over the spread of clips |")
    print("|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in compare(shape, waves))} |", flush=True)


@torch.inference_mode()
def compare(shape: dict, waves: list[np.ndarray]) -> tuple[float, ...]:
    """Seconds of both; of the last layer the change over its norm, the cosine, and the change over the spread."""
    torch.manual_seed(0)
    model = SERForAudioClassification(SERConfig(backbone_config=WhisperConfig(**shape))).eval()
    extractor = new_feature_extractor(model.config.backbone_config)
    states, seconds = {}, {}
    for full in (True, False):
        model.config.whisper_full_window, states[full], seconds[full] = full, [], 0.0
        for wave in waves:
            kwargs = {"sampling_rate": 16000, "return_attention_mask": True, "return_tensors": "pt"}
            batch = extractor(wave, padding="max_length", **kwargs)
            started = time.process_time()
            states[full].append(model.layer_statistics(**batch)[0, -1, : shape["d_model"]])
            seconds[full] += time.process_time() - started
    whole, cut = torch.stack(states[True]), torch.stack(states[False])
    change = (whole - cut).norm(dim=-1).mean()
    spread = (whole - whole.mean(0)).norm(dim=-1).mean()
    cosine = torch.nn.functional.cosine_similarity(whole, cut).mean()
    return (
        *(seconds[full] / len(waves) for full in (True, False)),
        change / whole.norm(dim=-1).mean(),
        cosine,
        change / spread,
    )


if __name__ == "__main__":
    main()

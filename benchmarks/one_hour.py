"""How much memory and time does one hour of audio take? `ser predict --timeline`, as `/usr/bin/time -v` sees it.

    python benchmarks/one_hour.py --backbone tiny                      # a minute or two on two cores
    python benchmarks/one_hour.py --backbone base --hop_seconds 4      # the table of RESULTS.md, a quarter of an hour

The audio is noise that swells like syllables, with pauses, in stereo at 44.1 kHz; the weights are random. Speed and
memory do not depend on the content. The share of the model alone is measured on a clip of one window.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

RATE_HZ = 44_100
# Of `make demo`: one convolution that is a filterbank, two that thin it out, two layers of 96.
TINY = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "conv_dim": (128, 128, 128),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 1),
    "feat_extract_norm": "layer",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=("tiny", "base"), default="tiny", help="HuBERT of the demo, or base")
    parser.add_argument("--window_seconds", type=float, default=4.0)
    parser.add_argument("--hop_seconds", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    flags = ["--timeline", "--window-seconds", str(args.window_seconds), "--hop-seconds", str(args.hop_seconds)]
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder) / "model", {} if args.backbone == "base" else TINY)
        rows = []
        for seconds in (args.window_seconds, 60 * args.minutes):
            audio = write_audio(Path(folder) / "audio.flac", seconds)
            rows.append((seconds, *measure([str(audio), "--model", str(model), *flags, "--device", "cpu"])))
    print("| audio, s | wall, s | times real time | peak memory, MB |\n|---|---|---|---|")
    for seconds, wall, memory in rows:
        print(f"| {seconds:.0f} | {wall:.1f} | {seconds / wall:.1f} | {memory:.0f} |")
    print(f"\nAbove the model: {rows[1][2] - rows[0][2]:.0f} MB")


def save_model(folder: Path, backbone: dict) -> Path:
    """Saves a model of random weights as training saves one."""
    from transformers import HubertConfig, Wav2Vec2FeatureExtractor

    from ser_model import SERConfig, SERForAudioClassification

    SERForAudioClassification(SERConfig(backbone_config=HubertConfig(**backbone), num_labels=6)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


def write_audio(path: Path, seconds: float) -> Path:
    """Writes noise in stereo, a second of silence in every twenty, block by block."""
    import soundfile

    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, format="FLAC") as file:
        for start in range(0, round(seconds * RATE_HZ), RATE_HZ):
            time = np.arange(start, min(start + RATE_HZ, round(seconds * RATE_HZ))) / RATE_HZ
            swell = 0.1 * (0.6 + 0.4 * np.sin(8 * np.pi * time)) * (start // RATE_HZ % 20 != 19)
            file.write(swell[:, None] * generator.standard_normal((len(time), 2)))
    return path


def measure(arguments: list[str]) -> tuple[float, float]:
    """Runs `ser predict` in a process of its own: wall-clock seconds, start included, and peak memory in MB."""
    command = ["/usr/bin/time", "-v", sys.executable, "-c", "from ser.cli import app; app()", "predict", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    *_, clock = re.search(r"Elapsed \(wall clock\).*: ([\d:.]+)", run.stderr).groups()
    seconds = sum(60**power * float(part) for power, part in enumerate(reversed(clock.split(":"))))
    return seconds, int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", run.stderr).group(1)) / 1000


if __name__ == "__main__":
    main()

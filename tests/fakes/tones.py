"""A corpus of tones, small and easy: three classes of pitch, six speakers of timbre, as a manifest of WAV files."""

import csv
from pathlib import Path

import numpy as np
import soundfile

CLASSES = {"anger": 900.0, "neutral": 400.0, "sadness": 150.0}
SPEAKERS = tuple(f"s{n}" for n in range(6))


def write_tones(folder: Path, clips_per_class: int = 2, targets: bool = False, seed: int = 0) -> Path:
    """Writes the recordings and `manifest.csv` (path, label, speaker, gender; with `targets` valence and arousal too).

    Returns:
        The path of the manifest.
    """
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for speaker, name in enumerate(SPEAKERS):
        for label, pitch_hz in CLASSES.items():
            for number in range(clips_per_class):
                seconds = generator.uniform(0.3, 0.9)
                time = np.arange(int(16000 * seconds)) / 16000
                partials = [np.sin(2 * np.pi * pitch_hz * k * time) / k ** (1 + speaker / 4) for k in (1, 2, 3)]
                wave = 0.2 * sum(partials) + 0.02 * generator.standard_normal(len(time))
                path = folder / f"{name}_{label}_{number}.wav"
                soundfile.write(path, wave, 16000, subtype="PCM_16")
                row = {"path": path.name, "label": label, "speaker": name, "gender": ("female", "male")[speaker % 2]}
                if targets:
                    row |= {"valence": f"{-pitch_hz / 900:.4f}", "arousal": f"{pitch_hz / 900 + seconds:.4f}"}
                rows.append(row)
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return manifest

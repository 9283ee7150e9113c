"""How often the fingerprint takes two different clips for copies, and how often it misses a copy.

    python benchmarks/fingerprint.py --data_dir emodb

EMO-DB is a hard case: every speaker says the same ten sentences several times. Copies of every clip are made in each
of the ways below, and each copy is searched among all clips.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser.data.fingerprint import SAMPLING_RATE_HZ, Fingerprint, fingerprint, near_copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="Folder of EMO-DB.")
    paths = sorted(Path(parser.parse_args().data_dir).rglob("*.wav"))
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    started = time.monotonic()
    prints = [fingerprint(wave) for wave in waves]
    seconds = sum(map(len, waves)) / SAMPLING_RATE_HZ
    print(f"{len(waves)} clips, {seconds:.0f} s of audio, fingerprints in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    false, pairs = len(near_copies(prints, range(len(prints)))), len(prints) * (len(prints) - 1) // 2
    print(f"false positives: {false} of {pairs} pairs, in {time.monotonic() - started:.1f} s")
    print("\n| copy | missed | false | bit error, median | largest |\n|---|---|---|---|---|")
    for name, change in COPIES.items():
        missed, wrong, errors = search(prints, [fingerprint(change(wave)) for wave in waves])
        print(f"| {name} | {missed} | {wrong} | {np.median(errors):.3f} | {max(errors):.3f} |")


def search(prints: list[Fingerprint], copies: list[Fingerprint]) -> tuple[int, int, list[float]]:
    """Copies that were missed, clips taken for a copy of another, and the bit errors of the copies that were found."""
    found = near_copies([*prints, *copies], [0] * len(prints) + [1] * len(copies))
    errors = {first: error for first, second, error in found if second == first + len(prints)}
    return len(prints) - len(errors), len(found) - len(errors), list(errors.values())


def through(suffix: str, rate_hz: int = SAMPLING_RATE_HZ, **options) -> Callable[[np.ndarray], np.ndarray]:
    """A wave at -6 dB after it was written as a file of this format and rate and read again."""

    def change(wave: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        soundfile.write(file, soxr.resample(0.5 * wave, SAMPLING_RATE_HZ, rate_hz), rate_hz, format=suffix, **options)
        file.seek(0)
        return soxr.resample(soundfile.read(file, dtype="float32")[0], rate_hz, SAMPLING_RATE_HZ)

    return change


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "-6 dB, 16 bits": through("WAV"),
    "-6 dB, 8 kHz": through("WAV", 8_000),
    "-6 dB, 44.1 kHz": through("WAV", 44_100),
    "-6 dB, MP3": through("MP3"),
    "-6 dB, MP3 at 44.1 kHz": through("MP3", 44_100),
    "-6 dB, MP3 at its lowest rate": through("MP3", compression_level=0.99),
    "-6 dB, Ogg Vorbis": through("OGG"),
    "first 0.3 s cut off": lambda wave: wave[4_800:],
    "the middle second alone": lambda wave: wave[len(wave) // 2 - 8_000 :][:16_000],
}


if __name__ == "__main__":
    main()

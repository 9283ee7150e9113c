"""Which clips hold the same audio: to the sample, by hash, or after a change of level, rate or codec, by fingerprint.

The fingerprint holds the signs of differences of band energies (Haitsma & Kalker, "A Highly Robust Audio
Fingerprinting System", ISMIR 2002, eq. 1), with 33 bands from 300 to 3,000 Hz, which telephone speech and MP3 keep,
windows of 128 ms every 8 ms, and differences over 64 ms in time:

    bit(f, b) = sign[(L(f, b) - L(f, b + 1)) - (L(f - 8, b) - L(f - 8, b + 1))],  L = log energy

A gain cancels in the differences. Two clips are near-identical when, at the best offset, at most a quarter of the bits
differ over 0.32 s or more in which both sound, and over half or more of the shorter one. A clip with less sound than
that is matched only when at most an eighth of the bits differ; a clip under 0.32 s has no fingerprint.

False positives, measured by `benchmarks/fingerprint.py` on EMO-DB, whose speakers say the same ten sentences again and
again: none in the 142,845 pairs of its 535 clips. Copies of them at -6 dB, at other rates, through MP3 at its lowest
rate and through Vorbis are all found; they differ in 0.15 of the bits at most.
"""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ, pcm_16

MAX_BIT_ERROR = 0.25
_MAX_BIT_ERROR_SHORT = 0.125
_WINDOW, _HOP, _LAG = 2048, 128, 8
_BANDS_HZ = np.geomspace(300, 3000, 34)
_BINS = slice(int(_BANDS_HZ[0] * _WINDOW / SAMPLING_RATE_HZ), int(_BANDS_HZ[-1] * _WINDOW / SAMPLING_RATE_HZ) + 2)
# An overlap needs 0.13 s of frames in which both clips sound; below 0.32 s fewer errors are allowed.
_MIN_FRAMES, _SHORT_FRAMES = 16, 40
# Frames more than 40 dB under the loudest hold noise that codecs replace.
_SILENCE = 1e-4
# Two clips are compared where the lower or the upper 24 bits of a frame agree. Hum makes hundreds of frames agree: each
# is then compared with a few of them only.
_KEY_SHIFTS, _KEY_MASK, _MAX_NEIGHBOURS = (0, 8), np.uint32(0xFFFFFF), 32
# Offsets of the frames around such a frame that are compared before the whole overlap is.
_LOOK_AROUND = (-24, -16, -8, 8, 16, 24)
_MAX_BIT_ERROR_AROUND = 0.35
_BLOCK_FRAMES = 2048


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of one clip.

    Attributes:
        codes: `(F,)` uint32, the 32 bits of each frame.
        sounds: `(F,)` bool, whether the frame is within 40 dB of the loudest.
    """

    codes: np.ndarray
    sounds: np.ndarray


def recording_hash(wave: np.ndarray) -> str:
    """BLAKE2b, 16 bytes in hex, of the samples as 16-bit numbers; the container and its tags do not count.

    Args:
        wave: `(T,)`, float32 in [-1, 1], 16 kHz.
    """
    return hashlib.blake2b(pcm_16(wave).tobytes(), digest_size=16).hexdigest()


def waves_of(dataset: Any) -> Iterable[tuple[str, np.ndarray]]:
    """Yields `(id, wave)` of each clip of a prepared `datasets.Dataset`."""
    from ser.data.audio import clip_wave, undecoded

    for row in undecoded(dataset.select_columns(["id", "audio"])):
        yield row["id"], clip_wave(row)


def fingerprint(wave: np.ndarray) -> Fingerprint:
    """Makes the fingerprint of one clip.

    Args:
        wave: `(T,)`, float32, 16 kHz.
    """
    from scipy.fft import rfft

    count = max(0, (len(wave) - _WINDOW) // _HOP + 1)
    if count <= _LAG:
        return Fingerprint(np.zeros(0, np.uint32), np.zeros(0, bool))
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(wave, np.float32), _WINDOW)[::_HOP]
    blocks = (frames[start : start + _BLOCK_FRAMES] for start in range(0, count, _BLOCK_FRAMES))
    spectra = (rfft(block * _window(), axis=1)[:, _BINS] for block in blocks)
    energy = np.concatenate([(bins.real**2 + bins.imag**2) @ _filters() for bins in spectra])
    slope = -np.diff(np.log(energy + 1e-10), axis=1)
    bits = slope[_LAG:] > slope[:-_LAG]
    loudness = energy.sum(axis=1)[_LAG:]
    codes = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return Fingerprint(codes, loudness > _SILENCE * loudness.max())


def near_copies(prints: Sequence[Fingerprint], groups: Sequence[Hashable]) -> list[tuple[int, int, float]]:
    """Finds the clips of different groups that hold the same audio.

    Args:
        prints: One fingerprint a clip.
        groups: What each clip belongs to; clips of one group are not compared.

    Returns:
        `(first, second, bit error)`, the first two as indices into `prints`, sorted by bit error.
    """
    best: dict[tuple[int, int], float] = {}
    for first, second, offset in _candidates(prints, groups):
        error = bit_error(prints[first], prints[second], offset)
        if error < best.get((first, second), 1.0):
            best[first, second] = error
    return sorted(((*pair, error) for pair, error in best.items()), key=lambda found: found[2])


def bit_error(first: Fingerprint, second: Fingerprint, offset: int) -> float:
    """Share of the bits that differ, in [0, 1], when frame f + offset of the first lies on frame f of the second.

    1.0 when the two overlap too little, or differ too much, to be called near-identical.
    """
    here, there = max(0, offset), max(0, -offset)
    length = min(len(first.codes) - here, len(second.codes) - there)
    both = first.sounds[here : here + length] & second.sounds[there : there + length]
    count = int(both.sum())
    if count < max(_MIN_FRAMES, 0.5 * min(first.sounds.sum(), second.sounds.sum())):
        return 1.0
    differ = first.codes[here : here + length][both] ^ second.codes[there : there + length][both]
    error = float(np.bitwise_count(differ).sum() / (32 * count))
    return error if error <= (MAX_BIT_ERROR if count >= _SHORT_FRAMES else _MAX_BIT_ERROR_SHORT) else 1.0


@cache
def _window() -> np.ndarray:
    return np.hanning(_WINDOW).astype(np.float32)


@cache
def _filters() -> np.ndarray:
    """Sums of the bins of each band, `(bins, 33)`."""
    hz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLING_RATE_HZ)[_BINS, None]
    return ((hz >= _BANDS_HZ[:-1]) & (hz < _BANDS_HZ[1:])).astype(np.float32)


def _candidates(prints: Sequence[Fingerprint], groups: Sequence[Hashable]) -> Iterable[tuple[int, int, int]]:
    """Pairs of clips, and the offset between them, at which a frame and those around it nearly agree."""
    lengths = [len(own.codes) for own in prints]
    if sum(lengths) == 0:
        return []
    codes = np.concatenate([own.codes for own in prints])
    clip = np.repeat(np.arange(len(prints)), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group = np.array([numbers[own] for own in groups])[clip]
    sounding = np.flatnonzero(np.concatenate([own.sounds for own in prints]))
    found: set[tuple[int, int, int]] = set()
    for shift in _KEY_SHIFTS:
        keys = (codes[sounding] >> np.uint32(shift)) & _KEY_MASK
        order = np.argsort(keys, kind="stable")
        keys, frames = keys[order], sounding[order]
        for step in range(1, _MAX_NEIGHBOURS + 1):
            same = np.flatnonzero(keys[step:] == keys[:-step])
            one, two = frames[same], frames[same + step]
            keep = group[one] != group[two]
            one, two = _agreeing_around(codes, clip, one[keep], two[keep])
            swap = clip[one] > clip[two]
            one, two = np.where(swap, two, one), np.where(swap, one, two)
            found.update(zip(clip[one].tolist(), clip[two].tolist(), (frame[one] - frame[two]).tolist(), strict=True))
    return sorted(found)


def _agreeing_around(
    codes: np.ndarray, clip: np.ndarray, one: np.ndarray, two: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keeps the pairs of frames, given as indices into `codes`, whose neighbouring frames nearly agree too."""
    errors, looked_at = np.zeros(len(one)), np.zeros(len(one))
    last = len(codes) - 1
    for step in _LOOK_AROUND:
        first, second = np.clip(one + step, 0, last), np.clip(two + step, 0, last)
        inside = (clip[first] == clip[one]) & (clip[second] == clip[two])
        errors += inside * np.bitwise_count(codes[first] ^ codes[second])
        looked_at += inside
    agree = errors <= _MAX_BIT_ERROR_AROUND * 32 * looked_at
    return one[agree], two[agree]

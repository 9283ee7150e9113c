"""The six functionals of a clip that tell most about how it is spoken, in units that a reader knows.

Pitch, loudness, rate and harmonics-to-noise ratio are those of `ser.experiments.functionals`; jitter and spectral slope
are computed here. Clips without a voiced frame have NaN in all but loudness and rate.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ
from ser.data.signal import measured
from ser.experiments.functionals import FUNCTIONALS, HOP, corpus_functionals, pitch_track

# Part of the cache's key: raise it when a change of the code gives other values.
_VERSION = 1
# A period is looked for around the pitch of its frame. Two that differ by more than Praat's limit are no neighbours.
_PERIOD_RANGE, _MOST_CHANGE = (0.75, 1.3), 1.3
_FEWEST_PERIODS = 8
_SLOPE_FROM_HZ, _SLOPE_TO_HZ, _SLOPE_WINDOW = 100.0, 5000.0, 1024


class Voice(NamedTuple):
    """One of the six functionals.

    Attributes:
        name: In sentences.
        unit: Of its values; empty for none.
        meaning: How it is measured.
        is_logarithmic: Whether its axis is.
    """

    name: str
    unit: str
    meaning: str
    is_logarithmic: bool = False


VOICES = {
    "pitch": Voice("pitch", "Hz", "median over voiced frames", True),
    "loudness": Voice("loudness", "dB", "95th percentile of the level, against full scale"),
    "rate": Voice("rate", "per second", "peaks of loudness, which are mostly syllables"),
    "jitter": Voice("jitter", "%", "mean difference of neighbouring periods, against their mean"),
    "hnr": Voice("harmonics-to-noise ratio", "dB", "mean over voiced frames; low where a voice is hoarse or breathy"),
    "slope": Voice("spectral slope", "dB per octave", "of voiced speech from 100 to 5,000 Hz; steep where it is soft"),
}


def corpus_voices(dataset: Any, cache_dir: str | None = None, num_proc: int = 1) -> dict[str, np.ndarray]:
    """The six functionals of every clip of a prepared corpus, `[N]` each by the keys of `VOICES`; cached.

    Args:
        dataset: Prepared corpus.
        cache_dir: Where prepared corpora are kept; the cache of datasets by default.
        num_proc: Processes.
    """
    values = corpus_functionals(dataset, "plain", cache_dir, num_proc)
    own = measured(dataset, voice_quality, f"jitter and slope, version {_VERSION}", num_proc)
    known = {name: values[:, FUNCTIONALS.index(name)] for name in FUNCTIONALS}
    is_voiced = known["voiced_share"] > 0
    return {
        "pitch": np.where(is_voiced, 27.5 * 2 ** (known["pitch_semitones_p50"] / 12), np.nan),
        "loudness": known["level_db_p95"],
        "rate": known["peaks_per_second"],
        "jitter": own["jitter"],
        "hnr": np.where(is_voiced, known["harmonicity_db_mean"], np.nan),
        "slope": own["slope"],
    }


def voice_quality(wave: np.ndarray) -> dict[str, float]:
    """`jitter` in % and `slope` in dB per octave of one clip; NaN where too little is voiced.

    Args:
        wave: `(T,)`, float32 in [-1, 1], 16 kHz.
    """
    pitch, _ = pitch_track(wave)
    return {"jitter": 100 * jitter(wave, pitch), "slope": spectral_slope(wave, pitch)}


def jitter(wave: np.ndarray, pitch: np.ndarray) -> float:
    """Mean absolute difference of neighbouring periods over their mean: "jitter (local)" of Praat's manual.

    Boersma, "Should jitter be measured by peak picking or by waveform matching?", Folia Phoniatrica et Logopaedica 61,
    2009: periods are found by waveform matching, so each ends where the wave looks most like it did one period before.

    Args:
        wave: `(T,)`, 16 kHz.
        pitch: `(F,)` in Hz, 0 where unvoiced, from `pitch_track`.

    Returns:
        0 for equal periods; NaN where fewer than 8 pairs of neighbours are found.
    """
    wave = np.asarray(wave, np.float64)
    energy = np.concatenate([[0.0], np.cumsum(wave**2)])
    edges = np.diff(np.concatenate([[0], pitch > 0, [0]]).astype(np.int8))
    stretches = zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True)
    pairs = [pair for first, last in stretches for pair in _neighbours(_periods(wave, energy, pitch, first, last))]
    if len(pairs) < _FEWEST_PERIODS:
        return float("nan")
    one, two = np.array(pairs).T
    return float(np.abs(one - two).mean() / ((one + two) / 2).mean())


def spectral_slope(wave: np.ndarray, pitch: np.ndarray) -> float:
    """Slope of the mean spectrum of the voiced frames from 100 to 5,000 Hz, in dB per octave: 0 for white noise.

    The spectrum is averaged in bands of a third of an octave, so that each octave counts the same; then a line is
    fitted, as GeMAPS does for its slopes (Eyben et al., IEEE Transactions on Affective Computing 7, 2016, section 3.1).

    Args:
        wave: `(T,)`, 16 kHz.
        pitch: `(F,)` in Hz, 0 where unvoiced.

    Returns:
        NaN where nothing is voiced.
    """
    from scipy.signal.windows import hann

    voiced = np.flatnonzero(pitch > 0)
    if len(voiced) == 0:
        return float("nan")
    padded = np.pad(np.asarray(wave, np.float64), _SLOPE_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _SLOPE_WINDOW)[::HOP][voiced[voiced * HOP < len(wave)]]
    power = (np.abs(np.fft.rfft(frames * hann(_SLOPE_WINDOW, sym=False), axis=1)) ** 2).mean(axis=0)
    hz = np.fft.rfftfreq(_SLOPE_WINDOW, 1 / SAMPLING_RATE_HZ)
    octave = np.log2(np.maximum(hz, 1) / _SLOPE_FROM_HZ)
    bands = range(round(3 * np.log2(_SLOPE_TO_HZ / _SLOPE_FROM_HZ)))
    inside = [(octave >= band / 3) & (octave < (band + 1) / 3) for band in bands]
    levels = [(octave[chosen].mean(), power[chosen].mean()) for chosen in inside if chosen.any()]
    octaves, level = np.array(levels).T
    return float(np.polyfit(octaves, 10 * np.log10(np.maximum(level, 1e-20)), 1)[0])


def _periods(wave: np.ndarray, energy: np.ndarray, pitch: np.ndarray, first: int, last: int) -> list[float]:
    """Lengths of the periods in samples, one after the other, from frame `first` up to `last`."""
    at, found = float(first * HOP), []
    while at < (last - 1) * HOP:
        expected = SAMPLING_RATE_HZ / pitch[min(last - 1, round(at / HOP))]
        length = _next_period(wave, energy, round(at), expected)
        if length is None:
            break
        found.append(length)
        at += length
    return found


def _next_period(wave: np.ndarray, energy: np.ndarray, at: int, expected: float) -> float | None:
    """The lag in samples at which the wave after `at` is most like what follows one period later.

    The lag with the highest normalised correlation of one period, refined by a parabola; None at the end of the wave.
    `energy` is the sum of squares before each sample, `(T + 1,)`.
    """
    low, high, size = int(_PERIOD_RANGE[0] * expected), int(_PERIOD_RANGE[1] * expected) + 1, round(expected)
    start, lags = at + low - 1, high - low + 3
    if low < 2 or start + lags - 1 + size > len(wave):
        return None
    there = energy[start + size : start + size + lags] - energy[start : start + lags]
    alike = np.correlate(wave[start : start + lags - 1 + size], wave[at : at + size], "valid")
    match = alike / np.sqrt(np.maximum(there, 1e-12))
    best = int(match[1:-1].argmax()) + 1
    left, middle, right = match[best - 1 : best + 2]
    is_peak = middle > max(left, right)  # at the end of the range it may not be
    return low - 1 + best + (0.5 * (left - right) / (left - 2 * middle + right) if is_peak else 0.0)


def _neighbours(periods: list[float]) -> list[tuple[float, float]]:
    """Neighbouring periods that differ by less than Praat's limit; others are an octave jump or a gap."""
    return [pair for pair in pairwise(periods) if max(pair) < _MOST_CHANGE * min(pair)]

"""How well a clip was recorded: signal-to-noise ratio, clipping, bandwidth and silence, by plain signal processing."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ, clip_wave, undecoded

logger = logging.getLogger(__name__)
# Part of the cache's key: raise it when a change of the code gives other values.
_VERSION = 1
_FRAME, _SPECTRUM = 400, 512
# Power of the rounding error of a 16-bit sample: no noise floor of a recording lies below it.
_LEAST_NOISE = (1 / 32768) ** 2 / 12
# Samples of a flat top differ by less than this share of the clip's peak, which is 3 steps of 16 bits at full scale.
_FLAT, _FLAT_SAMPLES, _LEAST_PEAK = 1e-4, 3, 0.01
_SILENT_BELOW_DB, _ABSENT_BELOW_DB = -40.0, -60.0
MEASURES = ("snr_db", "clipped_share", "bandwidth_hz", "silent_share")


def snr_db(wave: np.ndarray) -> float:
    """Signal-to-noise ratio of a clip in dB, estimated without a reference.

    10 log10((P - N) / N), where P is the mean power of the frames of 25 ms, and N that of the quietest tenth of them:
    the noise is what is heard in the pauses. A clip without a pause looks noisier than it is. White noise added to
    EMO-DB's clips at 0, 10 and 20 dB is measured as 0.6, 10.2 and 19.8 dB (medians).

    Args:
        wave: `(T,)`, float32 in [-1, 1], 16 kHz.

    Returns:
        -30 dB or more; about 90 dB at most. Frames of zeros are left out, since no microphone records them.
    """
    power = _frame_power(wave)
    power = np.sort(power[power > 0])
    if len(power) == 0:
        return 0.0
    noise = max(power[: max(1, len(power) // 10)].mean(), _LEAST_NOISE)
    return float(10 * np.log10(max(power.mean() - noise, 1e-3 * noise) / noise))


def clipped_share(wave: np.ndarray) -> float:
    """Share of the samples of a clip, in [0, 1], that lie in flat tops: 3 or more in a row at its extremes.

    Clipping is not seen if the clip was resampled or sent through a codec afterwards: flat tops are not flat any more.

    Args:
        wave: `(T,)`, float32 in [-1, 1].
    """
    clipped = 0
    for side in (np.asarray(wave, np.float64), -np.asarray(wave, np.float64)):
        peak = side.max()
        if peak < _LEAST_PEAK:
            continue
        is_flat = np.concatenate([[False], side >= peak * (1 - _FLAT), [False]]).astype(np.int8)
        edges = np.diff(is_flat)
        lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
        clipped += lengths[lengths >= _FLAT_SAMPLES].sum()
    return float(clipped / len(wave))


def bandwidth_hz(wave: np.ndarray) -> float:
    """The highest frequency of a clip that is less than 60 dB weaker than its strongest one, in Hz, up to 8,000.

    The strength of a frequency is the 95th percentile of its power over frames of 32 ms, so that one fricative is
    enough. Telephone speech gives less than 4,000 Hz, whatever its sampling rate now. Noise added later hides that.

    Args:
        wave: `(T,)`, float32, 16 kHz.
    """
    from scipy.signal.windows import hann

    wave = np.pad(np.asarray(wave, np.float64), (0, max(0, _SPECTRUM - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, _SPECTRUM)[:: _SPECTRUM // 2]
    power = np.abs(np.fft.rfft(frames * hann(_SPECTRUM, sym=False), axis=1)) ** 2
    strength = np.percentile(power, 95, axis=0)
    if strength.max() == 0:
        return 0.0
    present = np.flatnonzero(strength > strength.max() * 10 ** (_ABSENT_BELOW_DB / 10))
    return float(present[-1] * SAMPLING_RATE_HZ / _SPECTRUM)


def silent_share(wave: np.ndarray) -> float:
    """Share of a clip's frames of 25 ms, in [0, 1], that are more than 40 dB below its loudest one.

    Args:
        wave: `(T,)`, float32, 16 kHz.
    """
    power = _frame_power(wave)
    return float((power < power.max() * 10 ** (_SILENT_BELOW_DB / 10)).mean())


def signal_measures(wave: np.ndarray) -> dict[str, float]:
    """All `MEASURES` of one clip, by name."""
    values = (snr_db(wave), clipped_share(wave), bandwidth_hz(wave), silent_share(wave))
    return dict(zip(MEASURES, values, strict=True))


def corpus_signal(dataset: Any, num_proc: int = 1) -> dict[str, np.ndarray]:
    """All `MEASURES` of every clip of a prepared corpus, `[N]` each, in the order of the rows.

    Computed once, and then read from the cache of `datasets`.
    """
    return measured(dataset, signal_measures, f"recording quality, version {_VERSION}", num_proc)


def measured(
    dataset: Any, measure: Callable[[np.ndarray], dict[str, float]], name: str, num_proc: int = 1
) -> dict[str, np.ndarray]:
    """Numbers of every clip of a prepared corpus, computed in parallel once and then read from the cache of `datasets`.

    Args:
        dataset: Prepared corpus.
        measure: From a wave `(T,)` to numbers by name.
        name: Names the measure in the cache; another name computes it again.
        num_proc: Processes.

    Returns:
        By name, `[N]` float64, in the order of the rows.
    """
    import datasets

    clips = undecoded(dataset.select_columns(["audio"]))
    key = datasets.fingerprint.Hasher.hash([clips._fingerprint, name])
    options = {
        "remove_columns": ["audio"],
        "new_fingerprint": key,
        "num_proc": min(num_proc, -(-len(clips) // 50)),
        "desc": name,
    }
    function = functools.partial(_measure_row, measure=measure)
    try:
        table = clips.map(function, **options)
    except OSError as error:  # a cache that others share may be read-only
        logger.warning("the measures of the clips are not kept: %s", error)
        table = clips.map(function, keep_in_memory=True, **options)
    return {column: np.asarray(table[column][:], np.float64) for column in table.column_names}


def _measure_row(row: dict[str, Any], measure: Callable[[np.ndarray], dict[str, float]]) -> dict[str, float]:
    return measure(clip_wave(row))


def _frame_power(wave: np.ndarray) -> np.ndarray:
    """Mean square of each frame of 25 ms, `(F,)`; the rest of the last frame is left out."""
    count = max(1, len(wave) // _FRAME)
    frames = np.asarray(wave[: count * _FRAME], np.float64).reshape(count, -1)
    return (frames**2).mean(axis=1)

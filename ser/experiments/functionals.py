"""Plain acoustic functionals: one vector of fixed length for each clip, for a baseline without a neural network.

Contours over frames (MFCC 1 to 13 and their deltas, level, zero crossings, spectral centroid, roll-off and flux, pitch
and harmonicity) are reduced to mean, deviation, three percentiles and range. Shares and rates of voicing, pauses and
loudness peaks, and the length, are added. Spectral contours are librosa's. Pitch is an autocorrelation of this module,
tens of times as fast as `librosa.pyin` and with a voicing decision, which `librosa.yin` lacks.
"""

import functools
import hashlib
import importlib.metadata
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ, decode_wav, undecoded
from ser.files import draft_of

HOP = SAMPLING_RATE_HZ // 100
_WINDOW = 512
_PITCH_WINDOW = 640
PITCH_RANGE_HZ = (60.0, 500.0)
# Autocorrelation above which a frame is voiced (Praat's default is 0.45), and the lowest level of one below the loudest
# frame.
_VOICED_FROM, _SILENT_BELOW_DB = 0.5, -30.0
_STATISTICS = ("mean", "std", "p05", "p50", "p95", "range")
_CONTOURS = (
    *(f"mfcc_{number}" for number in range(1, 14)),
    *(f"delta_mfcc_{number}" for number in range(1, 14)),
    *("level_db", "zero_crossings", "centroid_hz", "rolloff_hz", "flux", "pitch_semitones", "harmonicity_db"),
)
_RATES = ("voiced_share", "pause_share", "voiced_per_second", "voiced_seconds", "peaks_per_second", "log_seconds")
FUNCTIONALS = (*(f"{contour}_{statistic}" for contour in _CONTOURS for statistic in _STATISTICS), *_RATES)


def functionals(wave: np.ndarray) -> np.ndarray:
    """The functionals of one clip, named by `FUNCTIONALS`.

    Args:
        wave: `(T,)`, float32 in [-1, 1], 16 kHz.

    Returns:
        `(K,)`, float64, all finite; pitch and harmonicity are 0 where a clip has no voiced frame.
    """
    import librosa

    num_samples, wave = len(wave), np.asarray(wave, np.float32)
    wave = np.pad(wave, (0, max(0, _WINDOW - num_samples)))
    spectrum = np.abs(librosa.stft(wave, n_fft=_WINDOW, hop_length=HOP, pad_mode="constant"))
    mel = _mel_filters() @ spectrum**2
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), sr=SAMPLING_RATE_HZ, n_mfcc=14)[1:]
    rms = librosa.feature.rms(S=spectrum, frame_length=_WINDOW)[0]
    level = 20 * np.log10(np.maximum(rms, 1e-6))
    shape = spectrum / np.maximum(spectrum.sum(axis=0), 1e-9)
    pitch, harmonicity = pitch_track(wave)
    contours = [
        *mfcc,
        *np.gradient(mfcc, axis=1),
        level,
        librosa.feature.zero_crossing_rate(wave, frame_length=_WINDOW, hop_length=HOP)[0],
        librosa.feature.spectral_centroid(S=spectrum, sr=SAMPLING_RATE_HZ)[0],
        librosa.feature.spectral_rolloff(S=spectrum, sr=SAMPLING_RATE_HZ, roll_percent=0.85)[0],
        np.sqrt((np.diff(shape, axis=1) ** 2).sum(axis=0)),
        12 * np.log2(pitch[pitch > 0] / 27.5),
        harmonicity[pitch > 0],
    ]
    statistics = [value for contour in contours for value in _statistics(contour)]
    return np.nan_to_num(np.array([*statistics, *_rates(level, pitch, num_samples)], np.float64))


def pitch_track(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch of every frame in Hz, 0 where there is none, and harmonics-to-noise ratio in dB, `(F,)` each.

    Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled
    sound", IFA Proceedings 17, 1993: the autocorrelation of a Hann-windowed frame divided by that of the window, its
    highest peak refined by a parabola, and HNR = 10 log10(r / (1 - r)). There is no path search over frames; a median
    of five removes single octave jumps.

    Args:
        wave: `(T,)`, 16 kHz.
    """
    from scipy.ndimage import median_filter
    from scipy.signal.windows import hann

    padded = np.pad(np.asarray(wave, np.float64), _PITCH_WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _PITCH_WINDOW)[::HOP]
    window = hann(_PITCH_WINDOW, sym=False)
    level = np.sqrt((frames**2).mean(axis=1))
    frames = (frames - frames.mean(axis=1, keepdims=True)) * window
    low, high = (int(SAMPLING_RATE_HZ / limit) for limit in reversed(PITCH_RANGE_HZ))
    correlation = _autocorrelation(frames, high + 2) / _autocorrelation(window[None], high + 2)
    lags = np.arange(low, high + 1)
    left, middle, right = (correlation[:, lags + step] for step in (-1, 0, 1))
    # A true peak, not the slope down from lag 0. Its lag and height are those of the parabola through three points.
    is_peak = (middle >= left) & (middle > right)
    curve = np.where(is_peak, left - 2 * middle + right, -1.0)
    heights = np.where(is_peak, middle - (left - right) ** 2 / (8 * curve), -1.0)
    # A cost of 0.01 per octave prevents that a periodic frame gets a pitch one octave too low (Boersma, eq. 26).
    best = (heights - 0.01 * np.log2(lags / low)).argmax(axis=1)
    rows = np.arange(len(best))
    peak, lag = heights[rows, best], lags[best] + ((left - right) / (2 * curve))[rows, best]
    is_voiced = (
        is_peak.any(axis=1) & (peak > _VOICED_FROM) & (level > level.max(initial=0) * 10 ** (_SILENT_BELOW_DB / 20))
    )
    pitch = np.where(is_voiced, SAMPLING_RATE_HZ / lag, 0.0)
    peak = np.clip(peak, 1e-3, 1 - 1e-5)
    return np.where(is_voiced, median_filter(pitch, 5), 0.0), 10 * np.log10(peak / (1 - peak))


def egemaps(wave: np.ndarray) -> np.ndarray:
    """The 88 functionals of eGeMAPSv02 by openSMILE: Eyben et al., IEEE Transactions on Affective Computing 7, 2016."""
    return np.nan_to_num(_smile().process_signal(wave, SAMPLING_RATE_HZ).to_numpy(np.float64)[0])


@functools.cache
def _smile() -> Any:  # it takes longer to make than to run, and cannot be pickled
    import opensmile

    return opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"plain": functionals, "egemaps": egemaps}


def check_features(features: str) -> None:
    """Checks that `features` can be computed here.

    Raises:
        ValueError: There are no such features.
        ImportError: eGeMAPS needs openSMILE, which is not installed.
    """
    if features not in FEATURES:
        raise ValueError(f"--features: {features!r} is not one of {', '.join(FEATURES)}.")
    if features == "egemaps":
        try:
            import opensmile  # noqa: F401
        except ImportError:
            raise ImportError(
                "--features egemaps needs the package opensmile, which is not installed. Its licence (free for research"
                " and private use only) keeps it from being a dependency: read it, then pip install opensmile, or use "
                "--features plain."
            ) from None


def corpus_functionals(
    dataset: Any, features: str = "plain", cache_dir: str | None = None, num_proc: int | None = None
) -> np.ndarray:
    """Functionals of every clip of a prepared corpus, computed once in parallel and then read from a cache.

    The cache is one file for each corpus below the cache of `datasets`, keyed by ids, audio, features and the code of
    this module.

    Args:
        dataset: Prepared corpus.
        features: `plain` or `egemaps`.
        cache_dir: Where prepared corpora are kept; the cache of datasets by default.
        num_proc: Processes; all cores by default.

    Returns:
        `(N, K)`, float64, in the order of the rows.

    Raises:
        ValueError, ImportError: As `check_features`.
    """
    import datasets
    import joblib

    check_features(features)
    clips = [row["bytes"] for row in undecoded(dataset)["audio"]]
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "ser_functionals"
    path = folder / f"{features}-{_key(dataset['id'], clips, features)}.npz"
    if path.is_file():
        return np.load(path)["values"]
    jobs = num_proc or joblib.cpu_count()
    size = max(1, min(50, len(clips) // jobs))
    chunks = [clips[start : start + size] for start in range(0, len(clips), size)]
    found = joblib.Parallel(n_jobs=min(jobs, len(chunks)))(joblib.delayed(_of_clips)(c, features) for c in chunks)
    values = np.concatenate(found)
    _write(path, values)
    return values


def _of_clips(clips: list[bytes], features: str) -> np.ndarray:
    return np.stack([FEATURES[features](decode_wav(clip)) for clip in clips])


def _key(ids: list[str], clips: list[bytes], features: str) -> str:
    package = {"plain": "librosa", "egemaps": "opensmile"}[features]
    digest = hashlib.sha256(f"{features} {importlib.metadata.version(package)}".encode())
    digest.update(Path(__file__).read_bytes())  # a change of the code may change the values
    for name, clip in zip(ids, clips, strict=True):
        digest.update(name.encode() + hashlib.sha256(clip).digest())
    return digest.hexdigest()[:32]


def _write(path: Path, values: np.ndarray) -> None:
    """Writes the cache whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, values=values)
    with draft_of(path) as draft:
        draft.write_bytes(buffer.getvalue())


def _statistics(contour: np.ndarray) -> list[float]:
    if len(contour) == 0:
        return [0.0] * len(_STATISTICS)
    low, middle, high = np.percentile(contour, (5, 50, 95))
    return [contour.mean(), contour.std(), low, middle, high, np.ptp(contour)]


def _rates(level: np.ndarray, pitch: np.ndarray, num_samples: int) -> list[float]:
    """The values that `_RATES` names."""
    from scipy.signal import find_peaks

    seconds, is_voiced = num_samples / SAMPLING_RATE_HZ, pitch > 0
    stretches = int((np.diff(is_voiced.astype(int), prepend=0) == 1).sum())
    # Peaks of loudness count syllables: they are 3 dB high and a tenth of a second apart.
    peaks, _ = find_peaks(level, height=level.max() - 25, prominence=3, distance=10)
    return [
        is_voiced.mean(),
        (level < level.max() - 25).mean(),
        stretches / seconds,
        is_voiced.sum() * HOP / SAMPLING_RATE_HZ / max(stretches, 1),
        len(peaks) / seconds,
        np.log(seconds),
    ]


@functools.cache
def _mel_filters() -> np.ndarray:
    """40 triangles between 0 and 8 kHz, `[40, bins]`."""
    import librosa

    return librosa.filters.mel(sr=SAMPLING_RATE_HZ, n_fft=_WINDOW, n_mels=40)


def _autocorrelation(frames: np.ndarray, num_lags: int) -> np.ndarray:
    """Autocorrelation of what lies below 2 kHz, at lags 0 to `num_lags - 1`, 1 at lag 0; 0 for a row of zeros.

    Higher harmonics make peaks narrower than a sample, and voicing is found without them.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(frames.shape[1] + num_lags, real=True)
    power = np.abs(rfft(frames, size)) ** 2
    power[:, int(2000 / SAMPLING_RATE_HZ * size) :] = 0
    correlation = irfft(power, size)[:, :num_lags]
    return correlation / np.maximum(correlation[:, :1], 1e-12)

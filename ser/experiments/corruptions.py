"""Corruptions of speech: noise, gain, telephone, codecs, rooms, clipping and speed.

Every corruption is a function of a wave alone, or of a wave and a generator that is seeded by the kind and the clip's
id, so that a clip sounds the same in every run, process and order. Waves are `(T,)`, float32, 16 kHz; all but `speed`
keep T. Codecs are the real ones in libsndfile (LAME and mpg123, libopus, G.711).
"""

import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ser.data.audio import MIN_SAMPLES, SAMPLING_RATE_HZ
from ser.data.augment import hash_of
from ser.experiments.conditions import Condition

_SPECTRUM_WINDOW = 512


class Corruptor:
    """Applies conditions to the clips of a corpus.

    Args:
        spectrum: Power spectrum of the noise, from `mean_spectrum`.
    """

    def __init__(self, spectrum: np.ndarray):
        self.spectrum = spectrum

    def __call__(self, wave: np.ndarray, condition: Condition, clip_id: str) -> np.ndarray:
        """The wave of clip `clip_id` under a condition, `(T,)`, float32; the same at every call.

        Raises:
            ValueError: The kind of the condition is unknown.
        """
        if condition.kind not in KINDS:
            raise ValueError(f"condition {condition.name!r}: {condition.kind!r} is not one of {', '.join(KINDS)}.")
        inputs: dict[str, Any] = dict(condition.parameters)
        if condition.kind in ("noise", "reverberation"):
            inputs["generator"] = np.random.default_rng(hash_of((condition.kind, clip_id)))
        if condition.kind == "noise":
            inputs["spectrum"] = self.spectrum
        return np.ascontiguousarray(KINDS[condition.kind](wave, **inputs), dtype=np.float32)


def mean_spectrum(waves: Iterable[np.ndarray]) -> np.ndarray:
    """Power spectrum of speech, mean over the frames of all waves, `(257,)` from 0 to 8 kHz.

    Long clips and loud frames weigh more, so that loud vowels shape it, as in the sound of a crowd.

    Raises:
        ValueError: There is no wave.
    """
    total, count = np.zeros(_SPECTRUM_WINDOW // 2 + 1), 0
    window = np.hanning(_SPECTRUM_WINDOW)
    for wave in waves:
        padded = np.pad(wave.astype(np.float64), (0, max(0, _SPECTRUM_WINDOW - len(wave))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, _SPECTRUM_WINDOW)[:: _SPECTRUM_WINDOW // 2]
        total += (np.abs(np.fft.rfft(frames * window)) ** 2).sum(axis=0)
        count += len(frames)
    if count == 0:
        raise ValueError("the corpus has no clip to take the spectrum of the noise from; give one with clips.")
    return total / count


def noise(wave: np.ndarray, snr_db: float, spectrum: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Adds steady Gaussian noise with the long-term spectrum of speech.

    The SNR is exact: the ratio of the mean powers over the whole clip, pauses included. Nothing is clipped.

    Args:
        wave: `(T,)`.
        snr_db: Power of the clip over that of the noise, dB.
        spectrum: Power of the noise from 0 to 8 kHz.
        generator: Draws the noise.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    size = next_fast_len(len(wave), real=True)
    white = rfft(generator.standard_normal(size))
    positions = np.linspace(0, len(spectrum) - 1, len(white))
    shaped = irfft(white * np.sqrt(np.interp(positions, np.arange(len(spectrum)), spectrum)), size)[: len(wave)]
    wave = wave.astype(np.float64)
    return wave + shaped * np.sqrt((wave**2).mean() / (shaped**2).mean()) * 10 ** (-snr_db / 20)


def gain(wave: np.ndarray, gain_db: float) -> np.ndarray:
    """Raises or lowers the level; samples beyond full scale are clipped, as in a recorder."""
    return np.clip(wave * 10 ** (gain_db / 20), -1, 1)


def telephone(wave: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """A landline: a band-pass filter, 8 kHz, 8 bits of G.711 mu-law.

    The filter is linear-phase, 60 dB down outside the band, so that the clip is not delayed.
    """
    import soxr
    from scipy.signal import fftconvolve, firwin

    narrow = soxr.resample(wave, SAMPLING_RATE_HZ, 8000)
    taps = firwin(255, (low_hz, high_hz), window=("kaiser", 5.65), pass_zero=False, fs=8000)
    narrow = np.clip(fftconvolve(narrow, taps, mode="same"), -1, 1)
    decoded = _decoded(_encoded(narrow, 8000, format="WAV", subtype="ULAW"))
    return _of_length(soxr.resample(decoded, 8000, SAMPLING_RATE_HZ), len(wave))


def mp3(wave: np.ndarray, kbit_per_second: float) -> np.ndarray:
    """Encodes with LAME and decodes, at an average bit rate of 8 to 160 kbit/s, the range of MP3 at 16 kHz."""
    return _of_length(_decoded(mp3_bytes(wave, kbit_per_second)), len(wave))


def mp3_bytes(wave: np.ndarray, kbit_per_second: float) -> bytes:
    """The MP3 file of a wave.

    Raises:
        ValueError: The bit rate is outside 8 to 160.
    """
    # At a low constant bit rate the file has no room for the tag that tells a decoder the encoder's delay.
    level = _compression_level(kbit_per_second, 8.0, 160.0)
    return _encoded(wave, format="MP3", subtype="MPEG_LAYER_III", compression_level=level, bitrate_mode="AVERAGE")


def opus(wave: np.ndarray, kbit_per_second: float) -> np.ndarray:
    """Encodes with libopus and decodes, at an average bit rate of 6 to 256 kbit/s."""
    return _of_length(_decoded(opus_bytes(wave, kbit_per_second)), len(wave))


def opus_bytes(wave: np.ndarray, kbit_per_second: float) -> bytes:
    """The OGG Opus file of a wave.

    Raises:
        ValueError: The bit rate is outside 6 to 256.
    """
    level = _compression_level(kbit_per_second, 6.0, 256.0)
    return _encoded(wave, format="OGG", subtype="OPUS", compression_level=level)


def reverberation(
    wave: np.ndarray, rt60_seconds: float, direct_to_reverberant_db: float, generator: np.random.Generator
) -> np.ndarray:
    """Plays the clip in a room: the direct sound, followed by white noise that decays exponentially.

    h(t) = delta(t) + a n(t) 10^(-3 t / RT60) from 2 ms on, so that the tail is 60 dB down after RT60: Polack, "La
    transmission de l'energie sonore dans les salles", 1988. The result has the power of the clip; the tail beyond
    its end is cut.

    Args:
        wave: `(T,)`.
        rt60_seconds: Time in which the sound falls by 60 dB.
        direct_to_reverberant_db: Energy of the direct sound over that of the tail, dB.
        generator: Draws the room.
    """
    from scipy.signal import fftconvolve

    response = impulse_response(rt60_seconds, direct_to_reverberant_db, generator)
    wave = wave.astype(np.float64)
    wet = fftconvolve(wave, response)[: len(wave)]
    return wet * np.sqrt((wave**2).mean() / (wet**2).mean())


def impulse_response(
    rt60_seconds: float, direct_to_reverberant_db: float, generator: np.random.Generator
) -> np.ndarray:
    """The impulse response of `reverberation`, `1.2 RT60` long."""
    time = np.arange(int(1.2 * rt60_seconds * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    tail = np.where(time >= 0.002, generator.standard_normal(len(time)) * 10 ** (-3 * time / rt60_seconds), 0.0)
    tail *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def clipping(wave: np.ndarray, share: float) -> np.ndarray:
    """Overload: clips the loudest samples, a `share` of all, at the level of the quietest of them."""
    limit = np.quantile(np.abs(wave), 1 - share)
    return np.clip(wave, -limit, limit)


def speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """Plays the clip faster (above 1) or slower, as a tape does: pitch and formants move too, and T changes."""
    import soxr

    played = soxr.resample(wave, SAMPLING_RATE_HZ, SAMPLING_RATE_HZ / factor)
    return np.pad(played, (0, max(0, MIN_SAMPLES - len(played))))


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "noise": noise,
    "gain": gain,
    "telephone": telephone,
    "mp3": mp3,
    "opus": opus,
    "reverberation": reverberation,
    "clipping": clipping,
    "speed": speed,
}
CODECS = {"mp3": mp3_bytes, "opus": opus_bytes}


def achieved_kbit_per_second(waves: Iterable[np.ndarray], condition: Condition) -> float | None:
    """Bit rate that a codec reached, from the size of its files; None where the condition is no codec.

    Headers are included, which adds some kbit/s to files of a few seconds.
    """
    if condition.kind not in CODECS:
        return None
    num_bytes = num_samples = 0
    for wave in waves:
        num_bytes += len(CODECS[condition.kind](wave, **condition.parameters))
        num_samples += len(wave)
    return 8 * num_bytes / num_samples * SAMPLING_RATE_HZ / 1000


def _compression_level(kbit_per_second: float, lowest: float, highest: float) -> float:
    """libsndfile's scale from 0, the highest bit rate, to 1, the lowest."""
    if not lowest <= kbit_per_second <= highest:
        raise ValueError(
            f"kbit_per_second: {kbit_per_second} is outside {lowest:g} to {highest:g}; choose a rate within."
        )
    return min((highest - kbit_per_second) / (highest - lowest), 1.0)


def _encoded(wave: np.ndarray, sampling_rate_hz: int = SAMPLING_RATE_HZ, **options: Any) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.asarray(wave, np.float32), sampling_rate_hz, **options)
    return buffer.getvalue()


def _decoded(data: bytes) -> np.ndarray:
    import soundfile

    # Decoded samples can exceed full scale; a player clips them.
    return np.clip(soundfile.read(io.BytesIO(data), dtype="float32")[0], -1, 1)


def _of_length(wave: np.ndarray, length: int) -> np.ndarray:
    """Cuts or pads the few samples by which resampling changes the length."""
    return np.pad(wave[:length], (0, max(0, length - len(wave))))

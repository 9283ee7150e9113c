"""How a clip is stored, as a 16 kHz mono WAV in a `datasets` column, and how it is read."""

import io
import json
import struct
import wave as wave_format
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import datasets

SAMPLING_RATE_HZ = 16_000
# One frame of the speech encoders: a window of 25 ms.
MIN_SAMPLES = 400


def pcm_16(wave: np.ndarray) -> np.ndarray:
    """Rounds a wave `(T,)` in [-1, 1] to 16-bit samples, int16; values outside that range are clipped."""
    return np.clip(np.rint(np.asarray(wave, np.float64) * 32768), -32768, 32767).astype("<i2")


def encode_wav(wave: np.ndarray) -> bytes:
    """Writes a wave as a WAV file of 16 kHz mono that [`decode_wav`] reads back bit for bit.

    The samples are PCM_16 if 16 bits can hold them, as they can if the source is an integer or lossy file, and 32-bit
    float if not: a faint float file would lose its sound if it were rounded.

    Args:
        wave: Shape `(T,)`, float32.
    """
    samples, buffer = pcm_16(wave), io.BytesIO()
    if not np.array_equal(samples / np.float32(32768), wave):
        data = np.asarray(wave, "<f4").tobytes()
        form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, SAMPLING_RATE_HZ, 4 * SAMPLING_RATE_HZ, 4, 32, 0)
        fact = struct.pack("<4sII", b"fact", 4, len(wave))
        content = b"WAVE" + form + fact + struct.pack("<4sI", b"data", len(data)) + data
        return struct.pack("<4sI", b"RIFF", len(content)) + content
    with wave_format.open(buffer, "wb") as file:
        file.setparams((1, 2, SAMPLING_RATE_HZ, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def decode_wav(data: bytes) -> np.ndarray:
    """Reads back what [`encode_wav`] wrote.

    Returns:
        Shape `(T,)`, float32 in [-1, 1].

    Raises:
        ValueError: The bytes are not a mono WAV file at 16 kHz.
    """
    import soundfile

    try:
        wave, sampling_rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"A stored clip is not audio ({error.error_string}); prepare the corpus again.") from None
    if sampling_rate_hz != SAMPLING_RATE_HZ or wave.ndim != 1:
        channels = 1 if wave.ndim == 1 else wave.shape[1]
        raise ValueError(
            f"A stored clip has {sampling_rate_hz} Hz and {channels} channels, expected {SAMPLING_RATE_HZ} Hz and 1; "
            "prepare the corpus with data_prep.py."
        )
    return wave


def undecoded(dataset: "datasets.Dataset") -> "datasets.Dataset":
    """Returns the dataset with clips as bytes, so that rows are read without torchcodec."""
    import datasets

    return dataset.cast_column("audio", datasets.Audio(sampling_rate=SAMPLING_RATE_HZ, decode=False))


def clip_wave(row: dict[str, Any]) -> np.ndarray:
    """Returns the wave `(T,)`, float32, of one row of an [`undecoded`] dataset."""
    return decode_wav(row["audio"]["bytes"])


def corpus_facts(dataset: "datasets.Dataset") -> dict[str, Any]:
    """Returns what is known about the corpus: name, label_source, licence, language, citation, homepage, skipped, ...

    Raises:
        ValueError: The dataset was not made by `data_prep.py`.
    """
    try:
        return json.loads(dataset.info.description)
    except (TypeError, json.JSONDecodeError):
        raise ValueError("The dataset holds no facts about its corpus; prepare it with data_prep.py.") from None


def checked_wave(wave: np.ndarray) -> np.ndarray:
    """Returns the wave unchanged.

    Raises:
        ValueError: It is shorter than one frame or silent: every sample has the same value.
    """
    if len(wave) < MIN_SAMPLES:
        raise ValueError(
            f"is too short: {len(wave)} samples at 16 kHz, one frame needs {MIN_SAMPLES} ({MIN_SAMPLES / 16:.0f} ms)."
        )
    if wave.min() == wave.max():
        value = f"{wave[0]:g}" if wave[0] else "zero"
        raise ValueError(f"is silent: every sample is {value}; record or export it again.")
    return wave

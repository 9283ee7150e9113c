"""Speech emotion recognition: configuration, model and pipeline, in the one file that travels to the Hub.

Transformers copies this file beside the weights, so it imports nothing of this project: torch, transformers, numpy
and the standard library at the top; soundfile and soxr inside the functions that read audio.
"""

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from os import PathLike, fspath
from typing import Any

import numpy as np

SAMPLING_RATE_HZ = 16_000
# Two MP3 frames. A decoder may drop that much at the edges of an MP3; whatever is missing beyond it was cut off.
_DECODER_SLACK_SAMPLES = 2 * 1152


# ------------------------------------------------------------------------------------------------- reading of audio
def read_wave(source: str | PathLike | bytes, name: str | None = None, sampling_rate_hz: int = SAMPLING_RATE_HZ):
    """Reads one recording, whole, as training and prediction both see it.

    Any format of libsndfile (WAV, FLAC, OGG, MP3, ...), any rate and number of channels; others (m4a, video) through
    the ffmpeg program where it is installed. Channels are averaged, the rate is converted by soxr, and the samples
    are rounded to 16 bits, the precision the prepared corpus is stored in: a file gives the same scores whether it
    comes from a prepared corpus or straight from the disk.

    Args:
        source: A path, or the bytes of a file.
        name: What errors call the recording; the path by default.
        sampling_rate_hz: The rate of the result.

    Returns:
        `np.ndarray` of shape `(T,)`, float32 in [-1, 1].

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, not audio, cut off, or holds no sample or a NaN. The message names the file.
    """
    return np.concatenate(list(read_blocks(source, name, sampling_rate_hz)))


def read_blocks(
    source: str | PathLike | bytes,
    name: str | None = None,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    block_seconds: float = 30.0,
) -> Iterator[np.ndarray]:
    """Yields what [`read_wave`] returns in consecutive blocks, so that a recording of any length fits in memory.

    Yields:
        `np.ndarray` of shape `(T,)`, float32, about `block_seconds` each.

    Raises:
        FileNotFoundError, ValueError: As `read_wave`.
    """
    name = name or ("<bytes>" if isinstance(source, bytes) else fspath(source))
    total = 0
    for block in _resampled(_decoded(source, name, block_seconds), sampling_rate_hz):
        if not np.isfinite(block).all():
            raise ValueError(f"{name}: holds NaN or infinite samples; write the file again from its source.")
        total += len(block)
        if len(block):
            yield to_16_bit(block)
    if total == 0:
        raise ValueError(f"{name}: holds no sample of audio.")


def to_16_bit(wave: np.ndarray) -> np.ndarray:
    """Rounds a float wave `[T]` in [-1, 1] to the 65,536 values of 16-bit PCM and clips what lies outside."""
    return (np.clip(np.rint(wave * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)


def _resampled(blocks: Iterator[tuple[np.ndarray, int]], sampling_rate_hz: int) -> Iterator[np.ndarray]:
    """Converts `(mono block, rate)` pairs of one recording to `sampling_rate_hz`; the cuts leave no trace."""
    import soxr

    stream = None
    for block, rate_hz in blocks:
        if rate_hz == sampling_rate_hz:
            yield block
            continue
        stream = stream or soxr.ResampleStream(rate_hz, sampling_rate_hz, 1, dtype="float32")
        yield stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _decoded(source: str | PathLike | bytes, name: str, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Yields `(mono float32 block, sampling rate)` of a file or of a file's bytes."""
    import soundfile

    is_bytes = isinstance(source, bytes)
    if is_bytes and not source:
        raise ValueError(f"{name}: is empty (0 bytes).")
    with io.BytesIO(source) if is_bytes else open(source, "rb") as file:
        if not file.read(1):
            raise ValueError(f"{name}: is empty (0 bytes).")
        file.seek(0)
        try:
            audio = soundfile.SoundFile(file)
        except soundfile.LibsndfileError as error:
            if error.code != 1 or not _looks_like_media(file):
                raise ValueError(f"{name}: is not audio that can be read ({error.error_string})") from None
            audio = None
        if audio is not None:
            yield from _libsndfile_blocks(audio, name, block_seconds)
    if audio is None:
        yield from _ffmpeg_blocks(source, name, block_seconds)


def _libsndfile_blocks(audio: Any, name: str, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    import soundfile

    # libsndfile notes a header that promises more than the file holds, then reads what is there and says nothing.
    # Sizes near 2**32 are not promises: programs that write to a pipe put them.
    for promised, held in re.findall(r"^\s*data : (\d+) \(should be (\d+)\)", audio.extra_info, re.MULTILINE):
        if int(held) < int(promised) < 2**32 - 2**16:
            raise ValueError(f"{name}: is cut off: it holds {held} of {promised} bytes of audio; copy it again.")
    block_samples, total = max(1, int(block_seconds * audio.samplerate)), 0
    with audio:
        while True:
            try:
                block = audio.read(block_samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise ValueError(f"{name}: is damaged or cut off ({error.error_string})") from None
            if not len(block):
                break
            total += len(block)
            yield block.mean(axis=1), audio.samplerate
        if audio.frames - total > _DECODER_SLACK_SAMPLES:
            raise ValueError(f"{name}: is cut off: it holds {total} of {audio.frames} samples; copy it again.")


def _looks_like_media(file: io.IOBase) -> bool:
    """Whether the first bytes are those of MP4/M4A/MOV, Matroska/WebM, ADTS AAC, ASF or AMR, which ffmpeg reads."""
    file.seek(0)
    head = file.read(16)
    signatures = (b"\x1aE\xdf\xa3", b"\xff\xf1", b"\xff\xf9", b"0&\xb2u", b"#!AMR")
    return head[4:8] == b"ftyp" or head.startswith(signatures)


def _ffmpeg_blocks(source: str | PathLike | bytes, name: str, block_seconds: float) -> Iterator[tuple[np.ndarray, int]]:
    """Decodes with the ffmpeg program: 48 kHz mono float, in blocks."""
    import tempfile

    program, rate_hz = shutil.which("ffmpeg"), 48_000
    if program is None:
        raise ValueError(
            f"{name}: m4a and video need the ffmpeg program, which is not installed. Install it "
            "(apt install ffmpeg, brew install ffmpeg), or convert the file to WAV, FLAC, OGG or MP3."
        )
    with tempfile.NamedTemporaryFile() as copy, tempfile.TemporaryFile() as errors:
        if isinstance(source, bytes):
            copy.write(source)
            copy.flush()
        # file: keeps a name such as "http://x" or "concat:..." from being taken for a protocol.
        path = copy.name if isinstance(source, bytes) else fspath(source)
        command = [program, "-v", "error", "-nostdin", "-i", f"file:{path}", "-vn", "-ac", "1", "-ar", str(rate_hz)]
        with subprocess.Popen([*command, "-f", "f32le", "-"], stdout=subprocess.PIPE, stderr=errors) as process:
            while data := process.stdout.read(4 * max(1, int(block_seconds * rate_hz))):
                yield np.frombuffer(data[: len(data) // 4 * 4], np.float32), rate_hz
        if process.returncode:
            errors.seek(0)
            reason = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(f"{name}: ffmpeg cannot read it ({' '.join(reason)})")

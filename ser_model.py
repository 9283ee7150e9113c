"""Speech emotion recognition: audio, model and pipeline in the one file that travels to the Hub.

transformers copies this file beside the weights. It therefore imports only torch, transformers, numpy and the
standard library at the top; soundfile and soxr are imported inside the functions that read audio.

The parts, in this order:

- audio: `read_wave`, `read_blocks` and `open_audio` turn files, bytes, URLs and arrays into mono waves.
- configuration: `SERConfig`, and how many samples and frames a backbone needs.
- backbone: `wave_states`, `whisper_states` and `conformer_states` run the layers of a speech encoder.
- model: pooling and `SERForAudioClassification`.
- timeline: windows, pauses and the blending of scores.
- pipeline: `SERPipeline`, which `pipeline("audio-classification")` returns.
"""

import io
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sized
from functools import partial
from itertools import chain, pairwise
from os import PathLike, fspath, listdir
from os.path import abspath, basename, isdir
from types import GeneratorType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.configuration_utils import SubConfigSpec
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

logger = logging.get_logger(__name__)
SAMPLING_RATE_HZ = 16_000
# Sampling rates that recorders write; another rate in a header is a damaged or a forged one.
_RATES_HZ = (1_000, 768_000)
# Two MP3 frames: a decoder may drop that many samples at the edges of an MP3. If more are missing, the file is cut off.
_MP3_SLACK_SAMPLES = 2 * 1152
# libsndfile gives a number of this size if the header does not say how many samples there are.
_UNKNOWN_FRAMES = 2**60
# Values of all channels that are decoded at once.
_MAX_BLOCK = 2**24
# What a URL may send, and how long that may take.
_DOWNLOAD_BYTES, _DOWNLOAD_SECONDS = 500 * 10**6, 600
_FLOAT_SUBTYPES = ("FLOAT", "DOUBLE")


def read_wave(
    source: str | PathLike | bytes,
    name: str | None = None,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    max_seconds: float | None = None,
) -> np.ndarray:
    """Reads one whole recording. Training and prediction both read files with this function.

    It takes any format of libsndfile (WAV, FLAC, OGG, MP3, ...), a sampling rate of 1 kHz to 768 kHz and any number of
    channels. Other formats (m4a, video) need the ffmpeg program. Channels are averaged; if they cancel each other, the
    louder one is taken. soxr converts the rate.

    Samples of integer and lossy formats are rounded to 16 bits, as in a prepared corpus, so a clip gets the same scores
    from the corpus and from its file. Samples of float files stay float32; if their peak exceeds 1, they are divided by
    it. A float array is treated in the same way.

    Args:
        source: A path, or the bytes of a file.
        name: The name of the recording in errors; the path by default.
        sampling_rate_hz: Sampling rate of the result.
        max_seconds: A longer recording is refused, before it is decoded if its header says how long it is.

    Returns:
        `np.ndarray` of shape `(T,)`, float32 in [-1, 1].

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty, is not audio, is cut off, is too long, holds no sample, or holds a NaN. The
            message names it.
    """
    return np.concatenate(list(read_blocks(source, name, sampling_rate_hz, max_seconds=max_seconds)))


def read_blocks(
    source: str | PathLike | bytes,
    name: str | None = None,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    block_seconds: float = 10.0,
    max_seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Yields the wave of [`read_wave`] in consecutive blocks, so that a recording of any length fits in memory.

    Yields:
        `np.ndarray` of shape `(T,)`, float32, about `block_seconds` each.

    Raises:
        FileNotFoundError, ValueError: As `read_wave`.
    """
    name = name or ("<bytes>" if isinstance(source, bytes) else fspath(source))
    is_float, total = False, 0

    def mono() -> Iterator[tuple[np.ndarray, int]]:
        nonlocal is_float
        for block, rate_hz, is_float in _decoded(source, name, block_seconds, max_seconds):  # noqa: B007
            yield block, rate_hz

    for block in _resampled(mono(), sampling_rate_hz):
        if not np.isfinite(block).all():
            raise ValueError(f"{name}: holds NaN or infinite samples; write the file again from its source.")
        total += len(block)
        if len(block):
            yield block if is_float else to_16_bit(block)
    if total == 0:
        raise ValueError(f"{name}: holds no sample of audio.")


def to_16_bit(wave: np.ndarray) -> np.ndarray:
    """Rounds a float wave `[T]` in [-1, 1] to the 65,536 values of 16-bit PCM, and clips values outside that range."""
    return (np.clip(np.rint(wave * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)


def check_rate(rate_hz: float, name: str) -> None:
    """Refuses a sampling rate that no recorder writes.

    Raises:
        ValueError: The rate is outside 1 kHz to 768 kHz.
    """
    low, high = _RATES_HZ
    if not low <= rate_hz <= high:
        raise ValueError(
            f"{name}: has a sampling rate of {rate_hz:g} Hz; expected {low} to {high} Hz. The header is damaged: write "
            "the file again from its source."
        )


def _resampled(blocks: Iterator[tuple[np.ndarray, int]], sampling_rate_hz: int) -> Iterator[np.ndarray]:
    """Converts `(mono block, rate)` pairs of one recording to `sampling_rate_hz`, as if it were one block.

    The filter may exceed the peak of its input; the result is clipped to [-1, 1].
    """
    import soxr

    stream = None
    for block, rate_hz in blocks:
        if rate_hz == sampling_rate_hz:
            yield block
            continue
        stream = stream or soxr.ResampleStream(rate_hz, sampling_rate_hz, 1, dtype="float32")
        yield np.clip(stream.resample_chunk(block), -1.0, 1.0)
    if stream is not None:
        yield np.clip(stream.resample_chunk(np.zeros(0, np.float32), last=True), -1.0, 1.0)


class Mix:
    """How the channels of one recording become one: their mean, or the louder one if they cancel each other.

    Attributes:
        channel: The channel to take; None: the mean of all.
        peak: Largest absolute value of the result.
    """

    def __init__(self, blocks: Iterable[np.ndarray], name: str):
        """Surveys `blocks` `[T, channels]`, which may be consecutive blocks of a long recording."""
        self.channel: int | None = None
        count, peaks, sums, squares = 0, np.zeros(1), np.zeros(1), np.zeros(1)  # soon one for each channel
        for block in blocks:
            channels = np.column_stack([block, block.mean(axis=1)]).astype(np.float64)  # the mean is the last column
            count += len(channels)
            peaks = np.maximum(peaks, np.abs(channels).max(axis=0, initial=0.0))
            sums, squares = sums + channels.sum(axis=0), squares + np.square(channels).sum(axis=0)
        if not count:
            self.peak = 0.0
            return
        *variances, of_mean = (squares / count - np.square(sums / count)).tolist()
        loudest = int(np.argmax(variances))
        # Sound in one channel of n leaves 1 / n^2 of its variance in the mean. Less than 1/250 of that is cancellation.
        if of_mean < 4e-3 / len(variances) ** 2 * variances[loudest] and len(variances) > 1:
            self.channel = loudest
            logger.warning(f"{name}: its channels cancel each other; channel {loudest + 1}, the loudest, is taken.")
        self.peak = float(peaks[-1 if self.channel is None else self.channel])

    def mono(self, block: np.ndarray) -> np.ndarray:
        """One channel `[T]` of a block `[T, channels]`."""
        return block.mean(axis=1) if self.channel is None else block[:, self.channel]


def _decoded(
    source: str | PathLike | bytes, name: str, block_seconds: float, max_seconds: float | None
) -> Iterator[tuple[np.ndarray, int, bool]]:
    """Yields `(mono float32 block, sampling rate, whether the file holds floats)` of a file or of its bytes."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        if not file.read(1):
            raise ValueError(f"{name}: is empty (0 bytes).")
        audio = _opened(file, name)
        if audio is not None:
            is_float, mix = audio.subtype in _FLOAT_SUBTYPES, None
            _check_whole(audio, file, name, max_seconds)
            if is_float or audio.channels > 1:  # peak and channels must be known before the first block
                mix = Mix(_frames(audio, name, block_seconds, max_seconds), name)
                audio = _opened(file, name)
            for block in _frames(audio, name, block_seconds, max_seconds):
                wave = block[:, 0] if mix is None else mix.mono(block)
                if mix is not None and is_float and mix.peak > 1:
                    wave = wave / np.float32(mix.peak)
                yield wave, audio.samplerate, is_float
    if audio is None:
        for block, rate_hz in _ffmpeg_blocks(source, name, block_seconds, max_seconds):
            yield block, rate_hz, False


def _opened(file: Any, name: str) -> Any:
    """Opens a file with libsndfile; None if it is a format of ffmpeg."""
    import soundfile

    sizes = _wav_sizes(file)
    file.seek(0)
    try:
        # libsndfile reads nothing if the size is 0, and all there is if the size is too large.
        return soundfile.SoundFile(
            _Patched(file, sizes.position) if sizes and sizes.is_open and not sizes.data else file
        )
    except soundfile.LibsndfileError as error:
        if error.code != 1 or not _looks_like_media(file):
            raise ValueError(f"{name}: is not audio that can be read ({error.error_string})") from None
        return None


class _WavSizes(NamedTuple):
    """Sizes in the header of a WAV file, in bytes.

    Attributes:
        riff: Size of the file as the header gives it, without the first 8 bytes.
        data: Size of the samples as the header gives it.
        position: Where the header gives the size of the samples.
        held: Number of bytes from the first sample to the end of the file.
        align: Bytes of one sample of all channels.
    """

    riff: int
    data: int
    position: int
    held: int
    align: int

    @property
    def is_open(self) -> bool:
        """Whether the size of the samples is a placeholder: a program that writes to a pipe does not know it yet."""
        near_a_limit = any(abs(self.data - 2**power) <= 2**16 for power in (30, 31, 32))
        is_not_covered = self.riff < self.position + self.data - 4 or self.riff == 2**32 - 1
        if self.data == 0:
            return self.held > 0 and (self.riff <= self.position - 4 or self.riff == 2**32 - 1)
        return near_a_limit or is_not_covered or self.data % max(1, self.align) != 0


def _wav_sizes(file: Any) -> _WavSizes | None:
    """Reads the sizes in the header of a WAV file; None if it is another file or has no samples."""
    end, align = file.seek(0, io.SEEK_END), 0
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(chunk := file.read(8)) == 8:
        size = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            start = file.tell()
            return _WavSizes(int.from_bytes(head[4:8], "little"), size, start - 4, end - start, align)
        content = file.tell()
        if chunk[:4] == b"fmt ":
            align = int.from_bytes(file.read(14)[12:], "little")
        file.seek(content + size + size % 2)
    return None


class _Patched:
    """A WAV file as libsndfile is to see it: the largest possible size in place of the size 0 at `position`."""

    def __init__(self, file: Any, position: int):
        self.file, self.position = file, position
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        start = self.file.tell()
        data = bytearray(self.file.read(size))
        for byte in range(max(self.position, start), min(self.position + 4, start + len(data))):
            data[byte - start] = 0xFF
        return bytes(data)


def _check_whole(audio: Any, file: Any, name: str, max_seconds: float | None) -> None:
    """Refuses, before it is decoded, a file with an impossible rate, one that is cut off, and one that is too long."""
    check_rate(audio.samplerate, name)
    if max_seconds is not None and audio.frames < _UNKNOWN_FRAMES and audio.frames > max_seconds * audio.samplerate:
        raise _too_long(name, max_seconds)
    place = file.tell()
    sizes = _wav_sizes(file)
    for promised, held in _promises(audio, file):
        if held < promised and not (sizes and sizes.is_open):
            raise ValueError(f"{name}: is cut off: it holds {held} of {promised} bytes of audio; copy it again.")
    if audio.format == "OGG" and not _ogg_ends(file):
        raise ValueError(f"{name}: is cut off: the last page of its OGG stream is missing; copy it again.")
    file.seek(place)


def _promises(audio: Any, file: Any) -> Iterator[tuple[int, int]]:
    """Yields `(bytes that the header promises, bytes that the file holds)`."""
    # If a header promises more bytes than the file holds, libsndfile only writes so to its log and reads what is there.
    pattern = r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)"
    for promised, held in re.findall(pattern, audio.extra_info, re.MULTILINE):
        if int(promised) < 2**32 - 2**16 or audio.format in ("W64", "RF64"):  # an AU file of a pipe has 2**32 - 1
            yield int(promised), int(held)
    if audio.format == "MP3":
        yield _mp3_bytes(file)


def _mp3_bytes(file: Any) -> tuple[int, int]:
    """The size of an MP3 stream by its Xing, Info or VBRI header, 0 if there is none, and the size that is there."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    head, start = file.read(10), 0
    if head[:3] == b"ID3":  # a tag, whose size is in 4 times 7 bits
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame, promised = file.read(200), 0
    if (mark := frame.find(b"VBRI")) >= 0:
        promised = int.from_bytes(frame[mark + 10 : mark + 14], "big")
    elif (mark := max(frame.find(b"Xing"), frame.find(b"Info"))) >= 0:
        flags = int.from_bytes(frame[mark + 4 : mark + 8], "big")
        field = mark + 8 + 4 * (flags & 1)  # behind the number of frames, if there is one
        promised = int.from_bytes(frame[field : field + 4], "big") if flags & 2 else 0
    return promised, end - start


def _ogg_ends(file: Any) -> bool:
    """Whether an OGG file holds a whole page that is marked as the end of its stream."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - 2**17))  # a page has 65,307 bytes at most
    data, mark = file.read(), -1
    while (mark := data.find(b"OggS", mark + 1)) >= 0:
        page = data[mark:]
        if len(page) > 27 and page[5] & 4:
            start = 27 + page[26]  # behind the lengths of the page's segments
            if start + sum(page[27:start]) <= len(page) >= start:
                return True
    return False


def _too_long(name: str, max_seconds: float) -> ValueError:
    return ValueError(f"{name}: is longer than {max_seconds:g} s, the most that is read here; cut it into pieces.")


def _frames(audio: Any, name: str, block_seconds: float, max_seconds: float | None) -> Iterator[np.ndarray]:
    """Yields the samples of a file in blocks `[T, channels]`, float32."""
    import soundfile

    # A header may name a thousand channels; the memory for a block must not depend on it.
    block_samples, total = max(1, min(int(block_seconds * audio.samplerate), _MAX_BLOCK // audio.channels)), 0
    with audio:
        while True:
            try:
                block = audio.read(block_samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise ValueError(f"{name}: is damaged or cut off ({error.error_string})") from None
            if not len(block):
                break
            total += len(block)
            if max_seconds is not None and total > max_seconds * audio.samplerate:
                raise _too_long(name, max_seconds)
            yield block
        slack = _MP3_SLACK_SAMPLES if audio.format == "MP3" else 0
        if total + slack < audio.frames < _UNKNOWN_FRAMES:
            raise ValueError(f"{name}: is cut off: it holds {total} of {audio.frames} samples; copy it again.")


def _looks_like_media(file: io.IOBase) -> bool:
    """Whether the file begins as MP4/M4A/MOV, Matroska/WebM, ADTS AAC, ASF or AMR do; ffmpeg reads these."""
    file.seek(0)
    head = file.read(16)
    signatures = (b"\x1aE\xdf\xa3", b"\xff\xf1", b"\xff\xf9", b"0&\xb2u", b"#!AMR")
    return head[4:8] == b"ftyp" or head.startswith(signatures)


def _ffmpeg_blocks(
    source: str | PathLike | bytes, name: str, block_seconds: float, max_seconds: float | None
) -> Iterator[tuple[np.ndarray, int]]:
    """Decodes with the ffmpeg program, to 48 kHz mono float, in blocks."""
    import tempfile

    program, rate_hz, total = shutil.which("ffmpeg"), 48_000, 0
    if program is None:
        raise ValueError(
            f"{name}: m4a and video need the ffmpeg program, which is not installed. Install it "
            "(apt install ffmpeg, brew install ffmpeg), or convert the file to WAV, FLAC, OGG or MP3."
        )
    with tempfile.NamedTemporaryFile() as copy, tempfile.TemporaryFile() as errors:
        if isinstance(source, bytes):
            copy.write(source)
            copy.flush()
        # With the prefix file:, ffmpeg does not take a name such as "http://x" or "concat:..." for a protocol.
        path = copy.name if isinstance(source, bytes) else fspath(source)
        command = [
            program,
            "-v",
            "error",
            "-nostdin",
            "-i",
            f"file:{path}",
            "-vn",
            "-ac",
            "1",
            "-ar",
            str(rate_hz),
        ]
        with subprocess.Popen([*command, "-f", "f32le", "-"], stdout=subprocess.PIPE, stderr=errors) as process:
            output: Any = process.stdout
            while data := output.read(4 * max(1, int(block_seconds * rate_hz))):
                total += len(data) // 4
                if max_seconds is not None and total > max_seconds * rate_hz:
                    process.kill()
                    raise _too_long(name, max_seconds)
                yield np.frombuffer(data[: len(data) // 4 * 4], np.float32), rate_hz
        if process.returncode:
            errors.seek(0)
            reason = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(f"{name}: ffmpeg cannot read it ({' '.join(reason)})")


def open_audio(source: Any, sampling_rate_hz: int = SAMPLING_RATE_HZ) -> tuple[str, Iterator[np.ndarray]]:
    """Opens any input of the pipeline.

    Args:
        source: A path, a URL, the bytes of a file, an open file; an array or tensor `(T,)`, `(2, T)` or
            `(T, channels)` at `sampling_rate_hz`; a dict with `array` or `raw` and `sampling_rate`, where the shorter
            axis of the array is the channels; a row of a `datasets.Audio` column (`bytes`, `path`, or a decoder), or a
            row with such a column named `audio`.

    Returns:
        The name of the recording in errors, and its blocks: `np.ndarray` of shape `(T,)`, float32, at
        `sampling_rate_hz`. Files are read as by `read_wave`. Float arrays are treated as float files: they keep their
        scale up to a peak of 1. Integers are divided by the range of their type.

    Raises:
        TypeError, ValueError: The input is none of these. Errors of reading are raised when blocks are taken.
    """
    if hasattr(source, "get_all_samples"):  # datasets decodes this row with torchcodec
        samples = source.get_all_samples()
        source = {"array": samples.data, "sampling_rate": samples.sample_rate}
    if isinstance(source, dict):
        return _open_dict(source, sampling_rate_hz)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        if source.ndim == 2 and 2 < source.shape[0] <= source.shape[1]:
            raise ValueError(
                f"array: has shape {tuple(source.shape)}: a batch of clips, or one clip of {source.shape[0]} channels? "
                "Give clips as a list of arrays, and channels as a dict with array and sampling_rate."
            )
        return "array", iter([_mono(source, "array")])
    if hasattr(source, "read"):
        return _open_file(source, sampling_rate_hz)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return source, _download_blocks(source, sampling_rate_hz)
    if isinstance(source, (str, bytes, PathLike)):
        return ("<bytes>" if isinstance(source, bytes) else fspath(source)), read_blocks(source, None, sampling_rate_hz)
    raise TypeError(
        f"A recording is a path, a URL, bytes, an array or a dict with array and sampling_rate, or an open file; "
        f"got {type(source).__name__}."
    )


def _open_file(file: Any, sampling_rate_hz: int) -> tuple[str, Iterator[np.ndarray]]:
    """Reads an open file, such as an upload, from its first byte."""
    if file.seekable():
        file.seek(0)
    data, name = file.read(), getattr(file, "name", None)
    if not isinstance(data, bytes):
        raise TypeError(f"{name or 'file'}: read() gives {type(data).__name__}; open the file in binary mode ('rb').")
    name = name if isinstance(name, str) else "<bytes>"
    return name, read_blocks(data, name, sampling_rate_hz)


def _open_dict(row: dict, sampling_rate_hz: int) -> tuple[str, Iterator[np.ndarray]]:
    name = row.get("path") or "array"
    array = row["raw"] if row.get("raw") is not None else row.get("array")
    if array is not None and row.get("sampling_rate"):
        check_rate(row["sampling_rate"], name)
        block = (_mono(array, name), int(row["sampling_rate"]))
        return name, _resampled(iter([block]), sampling_rate_hz)
    if row.get("bytes") is not None:
        name = row.get("path") or "<bytes>"
        return name, read_blocks(row["bytes"], name, sampling_rate_hz)
    inner = row["audio"] if "audio" in row else row.get("path")
    if inner is None:
        raise ValueError(
            f"A recording as a dict needs array (or raw) and sampling_rate, or bytes or path; "
            f"got {', '.join(map(str, row)) or 'nothing'}."
        )
    return open_audio(inner, sampling_rate_hz)


def _mono(array: Any, name: str) -> np.ndarray:
    """Returns the mean of the channels, float32 `(T,)`, of an array in any shape that `open_audio` takes."""
    array = array.detach().cpu().float().numpy() if torch.is_tensor(array) and array.is_floating_point() else array
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        raise ValueError(
            f"{name}: has shape {array.shape} of {array.dtype}, expected numbers (T,), (channels, T) or (T, channels)."
        )
    if not array.size:
        raise ValueError(f"{name}: holds no sample of audio.")
    middle = 128.0 if array.dtype == np.uint8 else 0.0
    scale = 1.0 if array.dtype.kind == "f" else 2.0 ** (8 * array.dtype.itemsize - 1)
    channels = (
        array[:, None] if array.ndim == 1 else np.moveaxis(array, int(np.argmin(array.shape)), 1)
    )  # [T, channels]
    with np.errstate(invalid="ignore"):
        mix = Mix([channels], name)
        wave = ((mix.mono(channels) - middle) / scale).astype(np.float32)
    if not np.isfinite(wave).all():
        raise ValueError(f"{name}: holds NaN or infinite samples.")
    return wave / np.float32(mix.peak) if array.dtype.kind == "f" and mix.peak > 1 else wave


def _download_blocks(url: str, sampling_rate_hz: int) -> Iterator[np.ndarray]:
    import tempfile
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    with tempfile.TemporaryDirectory() as folder:
        path, deadline = f"{folder}/audio", time.monotonic() + _DOWNLOAD_SECONDS
        request = Request(url, headers={"User-Agent": "ser"})
        try:
            with urlopen(request, timeout=30) as answer, open(path, "wb") as file:  # open_audio checks it  # nosec B310
                while block := answer.read1(2**16):
                    file.write(block)
                    if file.tell() > _DOWNLOAD_BYTES or time.monotonic() > deadline:
                        raise OSError(f"more than {_DOWNLOAD_BYTES // 10**6} MB, or {_DOWNLOAD_SECONDS} s")
                if answer.length:  # read1 does not raise IncompleteRead
                    raise OSError(f"the connection ended {answer.length} bytes before the end of the file")
        except (OSError, HTTPException) as error:
            raise ValueError(f"{url}: cannot be downloaded ({error}).") from None
        yield from read_blocks(path, url, sampling_rate_hz)


# Speech encoders that begin with convolutions over the raw wave. Their modules have the same names.
WAVE_BACKBONES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
# Speech encoders that take log-mel features, which their feature extractors compute.
FEATURE_BACKBONES = ("whisper", "wav2vec2-bert")
POOLINGS = ("mean", "mean_std", "attentive_stats")
HEADS = ("tanh", "linear")


class SERConfig(PreTrainedConfig):
    """Configuration of [`SERForAudioClassification`].

    Args:
        backbone_config: Configuration of the speech encoder, an object or a dict with its `model_type`.
        pooling: How the valid frames become one vector: `mean`, `mean_std` or `attentive_stats`.
        layer_mix: Which hidden states are pooled: `last`, `weighted` (a learned weighted sum of all), `all` (the
            vectors of all layers, concatenated), or the number of one layer (0 is the input of the first layer).
        head: `tanh`: two linear layers with tanh between them; `linear`: one linear layer.
        classifier_proj_size: Width of the layer between pooling and classes in `head: tanh`.
        final_dropout: Dropout before each linear layer of the head.
        attention_heads: Number of heads in `attentive_stats`.
        whisper_full_window: Only for Whisper. True: each clip is filled up to 30 s with silence, as in pretraining.
            False: the layers run over the clip only, see [`whisper_states`]. Pooling always takes the clip's frames.
        calibration_temperature: The logits were divided by this number; the classifier's weights contain it already.
        calibration_bias: Added to the logit of each class, it makes the scores assume the corpus' class frequencies.
        calibrate_prior: Whether the classifier's bias contains `calibration_bias` already.
        window_seconds: Window of a timeline: the median length of the training clips; None, if unknown, means 4 s.
        layers_cut_off: Number of the encoder's layers that were removed, see
            [`SERForAudioClassification.cut_off_unused_layers`]. With them went the norm behind the last layer, if the
            encoder had one.

    Raises:
        ValueError: A value is unknown, or the backbone cannot do what it asks for.
    """

    model_type = "ser"
    # `Trainer` would collect them beside the logits; it adds a list to this one.
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["hidden_states"]
    sub_configs_defaults = {"backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="hubert")}  # noqa: RUF012

    backbone_config: dict | PreTrainedConfig | None = None
    pooling: str = "mean"
    layer_mix: str | int = "last"
    head: str = "tanh"
    classifier_proj_size: int = 256
    final_dropout: float = 0.1
    attention_heads: int = 4
    whisper_full_window: bool = True
    calibration_temperature: float = 1.0
    calibration_bias: list[float] | None = None
    calibrate_prior: bool = False
    window_seconds: float | None = None
    layers_cut_off: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # Each configuration gets a new dict, since `pipeline()` writes into it.
        self.custom_pipelines = {
            "audio-classification": {
                "impl": "ser_model.SERPipeline",
                "pt": ["AutoModelForAudioClassification"],
                "type": "audio",
            }
        }
        self._check()

    def _check(self) -> None:
        backbone: Any = self.backbone_config  # made an object by transformers
        family, known = backbone.model_type, WAVE_BACKBONES + FEATURE_BACKBONES
        if family not in known:
            raise ValueError(f"backbone_config: model_type {family!r} is not one of {', '.join(known)}.")
        if getattr(backbone, "add_adapter", False):
            raise ValueError("backbone_config: add_adapter is true, and adapters are not supported; set it to false.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: {self.pooling!r} is not one of {', '.join(POOLINGS)}.")
        if str(self.layer_mix).isdigit():
            self.layer_mix = int(self.layer_mix)
        layers = backbone.num_hidden_layers
        if isinstance(self.layer_mix, int) and not 0 <= self.layer_mix <= layers:
            cut = f", from which {self.layers_cut_off} were cut off" if self.layers_cut_off else ""
            raise ValueError(
                f"layer_mix: layer {self.layer_mix} of a backbone of {layers} layers{cut}; expected 0 to {layers}."
            )
        if not isinstance(self.layer_mix, int) and self.layer_mix not in ("last", "weighted", "all"):
            raise ValueError(f"layer_mix: {self.layer_mix!r} is not last, weighted, all or a layer's number.")
        if self.layer_mix == "all" and self.pooling == "attentive_stats":
            raise ValueError(
                "layer_mix: all does not work with pooling: attentive_stats, which pools one sequence of frames; "
                "use layer_mix: weighted, or pooling: mean_std."
            )
        if self.problem_type == "multi_label_classification":
            raise ValueError(
                "problem_type: multi_label_classification is not supported: a clip has one class. Leave it out, or use "
                "regression for one value per label."
            )
        if self.head not in HEADS:
            raise ValueError(f"head: {self.head!r} is not one of {', '.join(HEADS)}.")

    def vector_shape(self) -> tuple[int, int]:
        """Number of vectors that are pooled from a clip (one per layer if each layer is pooled), and their size."""
        frames_are_mixed = self.pooling == "attentive_stats"
        many = self.layer_mix in ("weighted", "all") and not frames_are_mixed
        backbone: Any = self.backbone_config
        size = backbone.hidden_size if self.pooling == "mean" else 2 * backbone.hidden_size
        return (backbone.num_hidden_layers + 1 if many else 1), size


def num_frames(num_samples: Any, config: PreTrainedConfig) -> Any:
    """Number of frames that the backbone's convolutions make from `num_samples` samples; ints or int tensors.

    Each convolution, without padding, turns `n` into `floor((n - kernel) / stride) + 1`.
    """
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


def min_samples(config: PreTrainedConfig) -> int:
    """Smallest number of samples that make one frame: 400 (25 ms) for HuBERT's convolutions and Whisper's window.

    A frame of w2v-BERT consists of two such windows, 160 samples apart.
    """
    if config.model_type == "wav2vec2-bert":
        return 560
    kernels, strides = getattr(config, "conv_kernel", (400,)), getattr(config, "conv_stride", (160,))
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def has_norm_behind_layers(config: PreTrainedConfig) -> bool:
    """Whether the encoder's norm stands behind its layers, as in HuBERT-large and Whisper, and not before them."""
    return config.model_type == "whisper" or getattr(config, "do_stable_layer_norm", False)


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Boolean mask `[B, size]`, true in the first `lengths[b]` columns of row `b`."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def masked_group_norm(norm: nn.GroupNorm, hidden: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
    """GroupNorm with one channel per group; the statistics of a clip come from its valid frames only.

    HuBERT-base and similar models normalise their first convolution over time, padding included, so the features of a
    clip depend on its batch. Here they do not. Without padding the result equals that of the stock norm. The model puts
    this function in place of the norm's `forward`, so that calling the norm still loads weights that are offloaded.

    Args:
        norm: The layer of the backbone; its weights are used.
        hidden: `[B, D, F]`.
        frames: `[B]`, number of valid frames; all are valid by default, as when the backbone is called directly.
    """
    if frames is None or (not torch.compiler.is_compiling() and bool((frames == hidden.shape[-1]).all())):
        return type(norm).forward(norm, hidden)
    # Always in float32, also under autocast: a sum over thousands of frames overflows float16, and bfloat16 keeps only
    # 8 bits of it.
    values = hidden.float()
    mean, variance = _masked_moments(values, frames)
    scale = norm.weight[None, :, None] * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(norm.bias[None, :, None] - mean * scale, values, scale).to(hidden.dtype)


def _masked_moments(values: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel of `values` `[B, D, F]` over the valid frames of each clip: `[B, D, 1]`."""
    if torch.compiler.is_compiling():
        mask, count = length_mask(frames, values.shape[-1])[:, None], frames[:, None, None]
        mean = values.masked_fill(~mask, 0.0).sum(-1, keepdim=True) / count
        return mean, (values - mean).masked_fill(~mask, 0.0).square().sum(-1, keepdim=True) / count
    # Clip by clip: this is the largest tensor of the model, and so no copy of all of it is made. `torch.var_mean` takes
    # six times as long on a CPU.
    means, variances = [], []
    for row, count in zip(values.split(1), frames.tolist(), strict=True):
        valid = row[..., :count]
        means.append(valid.mean(-1, keepdim=True))
        variances.append((valid - means[-1]).square().mean(-1, keepdim=True))
    return torch.cat(means), torch.cat(variances)


def wave_features(encoder: nn.Module, waves: torch.Tensor, samples: torch.Tensor, config: Any) -> torch.Tensor:
    """Runs the backbone's convolutions over waves `[B, T]` with `samples` `[B]` valid samples: features `[B, F, D]`."""
    hidden = waves[:, None]
    for index, layer in enumerate(encoder.conv_layers):
        hidden = with_gradient(layer, hidden)
        if not isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            hidden = layer(hidden)
            continue
        kernel, stride = config.conv_kernel[index], config.conv_stride[index]
        frames = (samples - kernel) // stride + 1  # the group norm is on the first convolution only
        if is_checkpointed(layer):  # the layer checkpoints its own forward, which does not take `frames`
            hidden = layer._gradient_checkpointing_func(partial(_group_norm_layer, layer), hidden, frames)
        else:
            hidden = _group_norm_layer(layer, hidden, frames)
    return hidden.transpose(1, 2)


def _group_norm_layer(layer: nn.Module, hidden: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    return layer.activation(layer.layer_norm(layer.conv(hidden), frames))


def is_checkpointed(layer: nn.Module) -> bool:
    """Whether gradient checkpointing runs `layer` again in the backward pass."""
    return layer.training and getattr(layer, "gradient_checkpointing", False)


def with_gradient(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Lets the input of a checkpointed layer require a gradient.

    Without it, reentrant checkpointing computes no gradient for the weights of the layer: that concerns the first layer
    of the model and every layer behind frozen ones.
    """
    if hidden.requires_grad or not is_checkpointed(layer) or not torch.is_grad_enabled():
        return hidden
    return hidden.detach().requires_grad_() if any(p.requires_grad for p in layer.parameters()) else hidden


def position_features(embedding: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The backbone's convolutional position embedding of `hidden` `[B, F, D]`; padding has no influence on it.

    A single convolution sees zeros behind the clip, alone and in a batch. Several convolutions (data2vec-audio), or a
    norm before the convolution (mHuBERT), write into the padding, so the padding is set to zero after each of them.
    """
    hidden, mask = hidden.transpose(1, 2), mask[:, None]
    if hasattr(embedding, "layers"):
        for layer in embedding.layers:
            hidden = layer(hidden).masked_fill(~mask, 0.0)
        return hidden.transpose(1, 2)
    if getattr(embedding, "batch_norm", None) is not None:
        hidden = embedding.batch_norm(hidden).masked_fill(~mask, 0.0)
    return embedding.activation(embedding.padding(embedding.conv(hidden))).transpose(1, 2)


def span_mask(frames: torch.Tensor, size: int, probability: float, length: int, min_spans: int) -> torch.Tensor:
    """SpecAugment's time mask (arXiv 1904.08779): every span lies inside the valid frames of its clip.

    The number of spans is `probability * frames / length`, rounded up or down at random, and at most as many as fit
    into the clip without overlap. No two spans start at the same frame. A clip is masked as transformers masks it when
    it is alone (`_compute_mask_indices`), in any batch.

    Returns:
        Boolean `[B, size]`, true where a frame is masked.
    """
    wanted = probability * frames / length + torch.rand(frames.shape, device=frames.device)
    spans = torch.minimum(wanted.floor().clamp(min=min_spans), frames // length)  # a clip below one span stays whole
    # A compiled graph must not depend on a drawn number; it uses the largest number of spans that fit.
    most = size // length if torch.compiler.is_compiling() else int(spans.max().item())
    if most == 0:
        return torch.zeros(len(frames), size, dtype=torch.bool, device=frames.device)
    frame = torch.arange(size, device=frames.device)
    may_start = frame < (frames - length + 1)[:, None]
    starts = torch.rand(may_start.shape, device=frames.device).masked_fill(~may_start, -1.0).topk(most).indices
    used = torch.arange(most, device=frames.device)[None] < spans[:, None]
    # [B, spans, F], then any of the spans
    inside = (frame >= starts[..., None]) & (frame < starts[..., None] + length) & used[..., None]
    return inside.any(dim=1)


def spec_augment(hidden: torch.Tensor, frames: torch.Tensor, backbone: nn.Module) -> torch.Tensor:
    """Masks spans of frames and of features in `hidden` `[B, F, D]`, as the backbone's configuration asks."""
    config = backbone.config
    if not getattr(config, "apply_spec_augment", True):
        return hidden
    if config.mask_time_prob > 0:
        spans = (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks)
        mask = span_mask(frames, hidden.shape[1], *spans)[..., None]
        vector = getattr(backbone, "masked_spec_embed", hidden.new_zeros(()))  # Whisper has none
        hidden = torch.where(mask, vector.to(hidden.dtype), hidden)
    if config.mask_feature_prob > 0:
        spans = (config.mask_feature_prob, config.mask_feature_length, config.mask_feature_min_masks)
        size = hidden.shape[2]
        mask = span_mask(torch.full_like(frames, size), size, *spans)[:, None]
        hidden = hidden.masked_fill(mask, 0.0)
    return hidden


def projected_attention(
    attention: nn.Module, hidden: torch.Tensor, mask: torch.Tensor | None, bias: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """WavLM's attention, with its projections called as modules.

    The stock attention passes the weights of the projections to a function. A module that replaces a projection, as
    LoRA does, would never be called and never be trained.

    Args:
        hidden: `[B, F, D]`.
        mask: `[B, F]`, true on valid frames; None: all frames are valid.
        bias: Gated relative position bias, `[B * heads, F, F]`.
    """
    heads = attention.num_heads
    query, key, value = (
        project(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias = bias.unflatten(0, (-1, heads)).to(query.dtype)
    if mask is not None:
        bias = bias.masked_fill(~mask[:, None, None], float("-inf"))
    dropout = attention.dropout if attention.training else 0.0
    hidden = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return attention.out_proj(hidden.transpose(1, 2).flatten(2)), None


def relative_position_bias(attention: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """WavLM's relative position bias, which all layers share: `[B * heads, F, F]` for `hidden` `[B, F, D]`.

    The stock function takes the device from the weight of the embedding; an offloaded weight is on no device.
    """
    position = torch.arange(hidden.shape[1], device=hidden.device)
    buckets = attention._relative_positions_bucket(position[None, :] - position[:, None])
    return attention.rel_attn_embed(buckets).permute(2, 0, 1).repeat(len(hidden), 1, 1)


def wave_states(
    backbone: nn.Module, waves: torch.Tensor, samples: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs the backbone over `waves` `[B, T]` and yields `(hidden states [B, F, D], frame mask [B, F])` of each layer.

    It calls the backbone's modules in their usual order and gives the mask to each of them. The first yield is the
    input of the first layer, the last one is the stock model's `last_hidden_state`. A layer is run only when the caller
    asks for its states. LayerDrop is not applied: a skipped layer has no gradient, which DDP treats as an error.

    Args:
        samples: `[B]`, number of valid samples of each row.
    """
    config, encoder = backbone.config, backbone.encoder
    stable = has_norm_behind_layers(config)
    hidden = wave_features(backbone.feature_extractor, waves, samples, config)
    hidden = backbone.feature_projection(hidden)
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    frames = num_frames(samples, config)
    mask = length_mask(frames, hidden.shape[1])
    if backbone.training:
        hidden = spec_augment(hidden, frames, backbone)
    hidden = hidden.masked_fill(~mask[..., None], 0.0)
    hidden = hidden + position_features(encoder.pos_conv_embed, hidden, mask)
    hidden = encoder.dropout(hidden if stable else encoder.layer_norm(hidden))
    yield hidden, mask
    is_wavlm = config.model_type == "wavlm"
    if is_wavlm:
        bias = relative_position_bias(encoder.layers[0].attention, hidden)
    else:
        bias = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=mask)
    for index, layer in enumerate(encoder.layers, start=1):
        hidden = with_gradient(layer, hidden)
        if is_wavlm:  # positional arguments: reentrant checkpointing computes no gradient for others
            hidden, bias = layer(hidden, mask, bias)
        else:
            hidden = layer(hidden, attention_mask=bias)
        is_last = index == len(encoder.layers)
        yield (encoder.layer_norm(hidden) if stable and is_last else hidden), mask


def whisper_states(
    encoder: nn.Module, features: torch.Tensor, lengths: torch.Tensor, full_window: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs Whisper's encoder over log-mel `features` `[B, M, T]` and yields as [`wave_states`] does.

    Two mel frames make one frame; the frame mask excludes the silence behind the clip. With `full_window` the layers
    run over all of `T`, silence included, as in the stock encoder. Without it they run over the clip's frames only:
    the input of the first layer is the same, but no frame attends to silence, and a clip of 3 s takes a tenth of the
    time. The output then differs from that of the pretrained encoder. With random weights in the shape of whisper-tiny
    and whisper-small, the mean of the last layer over a clip of 3 s moves by 0.4 and 0.8 of its length, two and six
    times the distance of clips from their mean (`benchmarks/whisper_window.py`). A head therefore works only with the
    setting that it was trained with; the configuration stores it.

    Args:
        lengths: `[B]`, number of mel frames of each clip.

    Raises:
        ValueError: `T` is not the length of the full window, or exceeds the encoder's positions.
    """
    config, columns = encoder.config, features.shape[-1]
    limit = 2 * config.max_source_positions
    if columns > limit or (full_window and columns < limit):
        expected = "exactly" if full_window else "at most"
        raise ValueError(f"input_features: {columns} mel frames; this encoder takes {expected} {limit}.")
    if encoder.training:
        features = spec_augment(features.transpose(1, 2), lengths, encoder).transpose(1, 2)
    frames = (lengths + 1) // 2
    size = (columns + 1) // 2
    if not full_window and not torch.compiler.is_compiling():
        size = int(frames.max())
        features = features[..., : 2 * size + 1]  # the convolutions see one mel frame behind the last frame
    hidden = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(features))))
    hidden = hidden.transpose(1, 2)[:, :size] + encoder.embed_positions(torch.arange(size, device=hidden.device))
    hidden = nn.functional.dropout(hidden, encoder.dropout, encoder.training)
    mask, bias = length_mask(frames, size), None
    yield hidden, mask
    if not full_window:
        bias = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=mask)
    for index, layer in enumerate(encoder.layers, start=1):
        hidden = layer(with_gradient(layer, hidden), bias)
        yield (encoder.layer_norm(hidden) if index == len(encoder.layers) else hidden), mask


def conformer_states(
    backbone: nn.Module, features: torch.Tensor, frames: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs w2v-BERT 2.0 over stacked log-mel `features` `[B, F, 2 M]` and yields as [`wave_states`] does.

    Its convolutions see only earlier frames, so padding behind a clip has no influence; attention is masked. LayerDrop
    is not applied, as in `wave_states`.

    Args:
        frames: `[B]`, number of valid frames of each row.
    """
    config, encoder = backbone.config, backbone.encoder
    hidden, _ = backbone.feature_projection(features)
    mask = length_mask(frames, hidden.shape[1])
    if backbone.training:
        hidden = spec_augment(hidden, frames, backbone)
    hidden = encoder.dropout(hidden.masked_fill(~mask[..., None], 0.0))
    yield hidden, mask
    bias = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=mask)
    positions = None if encoder.embed_positions is None else encoder.embed_positions(hidden)
    for layer in encoder.layers:
        hidden = with_gradient(layer, hidden)
        hidden = layer(hidden, attention_mask=bias, relative_position_embeddings=positions, conv_attention_mask=mask)
        yield hidden, mask


def encoder_of(backbone: nn.Module) -> nn.Module:
    """The module that holds the `layers` of a backbone; for Whisper it is the backbone itself."""
    return getattr(backbone, "encoder", backbone)


def norm_behind_layers(backbone: nn.Module) -> nn.Module | None:
    """The norm behind the last layer, or None if there is none."""
    return encoder_of(backbone).layer_norm if has_norm_behind_layers(backbone.config) else None


def whisper_encoder_class() -> type[PreTrainedModel]:
    """The class of Whisper's encoder; no auto class knows it."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


def new_backbone(config: PreTrainedConfig) -> PreTrainedModel:
    """Makes a backbone with random weights."""
    if config.model_type == "whisper":
        return whisper_encoder_class()._from_config(config)
    return AutoModel.from_config(config)


def check_no_pickle(name_or_path: str) -> None:
    """Refuses a folder whose weights are only in pickled files: to unpickle a file can run code that it holds.

    Raises:
        ValueError: It is such a folder.
    """
    files = listdir(name_or_path) if isdir(name_or_path) else []
    pickled = [name for name in files if name.endswith((".bin", ".pt", ".pth")) and "model" in name]
    if pickled and not any(name.endswith(".safetensors") for name in files):
        raise ValueError(
            f"model_name_or_path: {name_or_path} holds its weights only as a pickled file, {pickled[0]}, which is not "
            "opened: it could run code. If you trust its source, convert it once in Python: "
            "AutoModel.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER'), and copy preprocessor_config.json too."
        )


def new_feature_extractor(config: PreTrainedConfig) -> Any:
    """Makes the feature extractor for a backbone with random weights."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    kwargs = {"sampling_rate": SAMPLING_RATE_HZ, "return_attention_mask": True}
    if config.model_type == "whisper":
        seconds = config.max_source_positions // 50
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds, **kwargs)
    if config.model_type == "wav2vec2-bert":
        mels = config.feature_projection_input_dim // 2
        return SeamlessM4TFeatureExtractor(feature_size=mels, num_mel_bins=mels, **kwargs)
    return Wav2Vec2FeatureExtractor(do_normalize=True, **kwargs)


def call_in_its_dtype(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Calls a linear layer with `values` in the dtype of its weight; a quantised layer takes float32."""
    dtype = getattr(layer.weight, "dtype", None)  # torch's quantised layers have a method of this name
    return layer(values.to(dtype) if dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16) else values)


def masked_mean_std(hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of `hidden` `[B, F, D]` over the frames in `mask` `[B, F]`, each `[B, D]`, float32.

    The deviation is `sqrt(mean((h - mean)^2) + 1e-8)`. Without the 1e-8 a clip of one frame has an infinite gradient.
    """
    weight = mask[..., None].float()
    count = weight.sum(1)
    mean = (hidden.float() * weight).sum(1) / count
    variance = ((hidden.float() - mean[:, None]).square() * weight).sum(1) / count
    return mean, (variance + 1e-8).sqrt()


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling with several heads (arXiv 1803.10963, eq. 3 to 6; context as in ECAPA-TDNN).

    Each head computes the weight of a frame from the frame and from the clip's mean and deviation. It pools its part
    of the channels. The result is the weighted mean and deviation: `[B, F, D]` becomes `[B, 2 D]`.
    """

    def __init__(self, size: int, heads: int, width: int = 128):
        super().__init__()
        if size % heads:
            raise ValueError(f"attention_heads: {heads} does not divide the backbone's hidden size {size}.")
        self.heads = heads
        self.score = nn.Sequential(nn.Linear(3 * size, width), nn.Tanh(), nn.Linear(width, heads))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = hidden.float()
        context = torch.cat(masked_mean_std(hidden, mask), dim=-1)[:, None].expand(-1, hidden.shape[1], -1)
        first, tanh, last = self.score
        scores = tanh(call_in_its_dtype(first, torch.cat([hidden, context], dim=-1)))
        scores = call_in_its_dtype(last, scores).float()
        weights = scores.masked_fill(~mask[..., None], float("-inf")).softmax(dim=1)[..., None]  # [B, F, heads, 1]
        channels = hidden.unflatten(-1, (self.heads, -1))  # [B, F, heads, D / heads]
        mean = (weights * channels).sum(1)
        variance = (weights * (channels - mean[:, None]).square()).sum(1)
        return torch.cat([mean.flatten(1), (variance + 1e-8).sqrt().flatten(1)], dim=-1)


class Standardize(nn.Module):
    """Subtracts the mean of the training clips and divides by their deviation: `[..., K, E]` to `[..., K, E]`.

    The dimensions of a pretrained encoder's states differ in size by orders of magnitude, and a small head then learns
    only from the large ones (`benchmarks/RESULTS.md`). Before [`fit`] is called, this module changes nothing.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, rows: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(rows, size))
        self.register_buffer("scale", torch.ones(rows, size))

    @torch.no_grad()
    def fit(self, vectors: torch.Tensor) -> None:
        """Computes mean and deviation of `vectors` `[N, K, E]`; a constant dimension is not scaled."""
        vectors = vectors.double()
        deviation = vectors.std(0, correction=0)
        self.mean.copy_(vectors.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6 * vectors.abs().amax(0), 1 / deviation, 1.0))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves the statistics, but keeps float32: in bfloat16 the error of a large mean exceeds a deviation."""
        exact = self.mean, self.scale
        super()._apply(fn, recurse)
        if not exact[0].is_meta:
            self.mean, self.scale = (values.to(self.mean.device) for values in exact)
        return self

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return (vectors - self.mean) * self.scale


class SERForAudioClassification(PreTrainedModel):
    """A speech backbone, pooling over the valid frames, and a head of one or two linear layers.

    The scores of a clip do not depend on its batch. The backbone's weights keep the names of their own checkpoint,
    with the prefix `backbone.`.
    """

    config_class = SERConfig
    base_model_prefix = "backbone"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules_strict = ("standardize",)
    # The backbone itself checks whether it supports the chosen attention.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: SERConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.backbone = new_backbone(config.backbone_config) if backbone is None else backbone
        backbone_config: Any = config.backbone_config
        family = backbone_config.model_type
        if family in FEATURE_BACKBONES:
            self.main_input_name = "input_features"
        if family == "wavlm":
            for layer in self.backbone.encoder.layers:
                layer.attention.torch_multi_head_self_attention = partial(projected_attention, layer.attention)
        if family in WAVE_BACKBONES:
            for layer in self.backbone.feature_extractor.conv_layers:
                if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                    layer.layer_norm.forward = partial(masked_group_norm, layer.layer_norm)
        if config.layers_cut_off:
            self._remove_norm_behind_layers()
        self._make_head()
        self._freeze_unused()
        self.post_init()

    def get_input_embeddings(self) -> None:
        """None: sound has no embedding table. FSDP asks for it, and transformers raises an error for most backbones."""

    def _make_head(self) -> None:
        """Makes all modules behind the backbone's layers."""
        config = self.config
        if config.layer_mix == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(config.backbone_config.num_hidden_layers + 1))
        if config.pooling == "attentive_stats":
            self.attention = AttentiveStatistics(config.backbone_config.hidden_size, config.attention_heads)
        rows, size = config.vector_shape()
        self.standardize = Standardize(rows, size)
        self.dropout = nn.Dropout(config.final_dropout)
        inputs = rows * size if config.layer_mix == "all" else size
        if config.head == "tanh":
            self.projector = nn.Linear(inputs, config.classifier_proj_size)
            inputs = config.classifier_proj_size
        self.classifier = nn.Linear(inputs, config.num_labels)

    def new_head(self, layer_mix: str | int) -> None:
        """Replaces the head by one with random weights that pools the layers of `layer_mix`."""
        for name in ("layer_weights", "attention", "projector"):
            if hasattr(self, name):
                delattr(self, name)
        self.config.layer_mix = layer_mix
        self.config._check()
        self._make_head()
        for module in self.modules():
            self._init_weights(module)
        self._freeze_unused()

    @classmethod
    def from_backbone(cls, name_or_path: str, attn_implementation: str | None = None, **config: Any) -> Any:
        """Puts a new head on a pretrained backbone.

        Args:
            name_or_path: Name of the backbone on the Hub, or its folder.
            attn_implementation: `eager`, `sdpa` or `flash_attention_2`; chosen by transformers by default.
            config: Arguments of [`SERConfig`]; `backbone_config` is a dict of values that replace the backbone's own.

        Raises:
            ValueError: The folder holds only pickled weights, or the checkpoint lacks a weight of the backbone, or has
                one that the backbone lacks.
        """
        check_no_pickle(name_or_path)
        overrides = config.pop("backbone_config", None) or {}
        # Training is in float32, with autocast if asked for, also from a half-precision checkpoint such as Whisper's.
        kwargs: dict[str, Any] = {"dtype": torch.float32}
        if attn_implementation is not None:
            kwargs["attn_implementation"] = attn_implementation
        kind = AutoModel
        # None, for which transformers asks on the terminal, would let the user switch on code that lies in the folder.
        trust = {"trust_remote_code": False}
        if isdir(name_or_path):
            kwargs["use_safetensors"] = True
        if AutoConfig.from_pretrained(name_or_path, **trust).model_type == "whisper":
            kind, kwargs["key_mapping"] = whisper_encoder_class(), {r"^(model\.)?encoder\.": ""}
        else:
            kwargs |= trust
        backbone, report = kind.from_pretrained(name_or_path, output_loading_info=True, **overrides, **kwargs)
        parts = tuple(name for name, _ in backbone.named_children())
        # Weights outside the backbone's modules belong to the head of pretraining; neither they nor Whisper's decoder
        # are used. Some official checkpoints lack SpecAugment's vector; training learns it.
        left_over = [
            key
            for key in report["unexpected_keys"]
            if any(f".{part}." in f".{key}" for part in parts) and ".decoder." not in f".{key}"
        ]
        missing = [key for key in report["missing_keys"] if not key.endswith("masked_spec_embed")]
        if missing or left_over:
            raise ValueError(
                f"model_name_or_path: {name_or_path} does not fit {type(backbone).__name__}: "
                f"{len(missing)} weights missing {sorted(missing)[:3]}, {len(left_over)} left over "
                f"{sorted(left_over)[:3]}. Is it a checkpoint of another architecture, or a damaged one?"
            )
        implementation = backbone.config._attn_implementation
        config = SERConfig(backbone_config=backbone.config, **config)
        backbone.config._attn_implementation = implementation  # the new outer configuration has reset it
        if isdir(name_or_path):
            backbone.config.name_or_path = basename(abspath(name_or_path))  # a shared model must not name local folders
        return cls(config, backbone=backbone)

    @classmethod
    def is_custom_code(cls) -> bool:
        """False also on the Hub: true keeps modules without parameters of their own from drawing missing weights.

        Whisper's encoder draws its positions, for one. `_init_weights` does not need that protection, since it calls
        `torch.nn.init`, which leaves loaded weights alone here.
        """
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # These are the rules for the head; the backbone initialises its own weights.
        if isinstance(module, nn.Linear) and module in set(self._head_linears()):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if hasattr(self, "attention") and module is self.attention.score[-1]:
                nn.init.zeros_(module.weight)  # attention starts as the plain mean and deviation
        elif module is self and hasattr(self, "layer_weights"):
            nn.init.zeros_(self.layer_weights)
        elif isinstance(module, Standardize):  # older checkpoints have no statistics
            nn.init.zeros_(module.mean)
            nn.init.ones_(module.scale)

    def _head_linears(self) -> list[nn.Linear]:
        pooling = getattr(self, "attention", None)
        scores = [layer for layer in pooling.score if isinstance(layer, nn.Linear)] if pooling else []
        return [*scores, *([self.projector] if self.config.head == "tanh" else []), self.classifier]

    def _freeze_unused(self) -> None:
        """Freezes the layers above `layer_mix`: they are not run, and DDP refuses parameters without a gradient."""
        if isinstance(self.config.layer_mix, int):
            unused = list(encoder_of(self.backbone).layers[self.config.layer_mix :])
            norm = norm_behind_layers(self.backbone)
            if norm is not None and unused:
                unused.append(norm)
            for module in unused:
                module.requires_grad_(False)

    def cut_off_unused_layers(self) -> None:
        """Removes the layers above `layer_mix`, which no score depends on; the scores stay equal to the bit.

        The first layer is always kept. The norm behind the last layer goes too, since it followed a layer that is gone.
        """
        if not isinstance(self.config.layer_mix, int):
            return
        encoder, config = encoder_of(self.backbone), self.config.backbone_config
        kept = max(1, self.config.layer_mix)
        if kept == len(encoder.layers):
            return
        self.config.layers_cut_off += len(encoder.layers) - kept
        encoder.layers = encoder.layers[:kept]
        config.num_hidden_layers = self.backbone.config.num_hidden_layers = kept
        self._remove_norm_behind_layers()

    def _remove_norm_behind_layers(self) -> None:
        if has_norm_behind_layers(self.backbone.config):
            encoder_of(self.backbone).layer_norm = nn.Identity()

    def freeze_feature_encoder(self) -> None:
        """Freezes the convolutions that turn samples or features into frames; w2v-BERT has none."""
        for name in ("feature_extractor", "conv1", "conv2"):
            if hasattr(self.backbone, name):
                getattr(self.backbone, name).requires_grad_(False)

    def freeze_base_model(self) -> None:
        """Freezes the whole backbone; only the head is trained."""
        self.backbone.requires_grad_(False)

    def freeze_layers(self, count: int) -> None:
        """Freezes everything before the layers, and the first `count` layers.

        Raises:
            ValueError: The backbone has fewer layers.
        """
        layers = encoder_of(self.backbone).layers
        if not 0 <= count <= len(layers):
            raise ValueError(f"freeze_layers: {count} of a backbone of {len(layers)}; expected 0 to {len(layers)}.")
        self.backbone.requires_grad_(False)
        for layer in layers[count:]:
            layer.requires_grad_(True)
        norm = norm_behind_layers(self.backbone)
        if norm is not None and count < len(layers):
            norm.requires_grad_(True)
        self._freeze_unused()

    def layer_statistics(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean and deviation of every layer over the valid frames: `[B, L + 1, 2 D]`, float32."""
        states = self._states(input_values, attention_mask, input_features)
        return torch.stack([torch.cat(masked_mean_std(hidden, mask), dim=-1) for hidden, mask in states], dim=1)

    def classify(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits `[B, C]` from `layer_statistics` `[B, L + 1, 2 D]`; they equal those of `forward`.

        Raises:
            ValueError: The pooling is `attentive_stats`, which needs frames; statistics hold none.
        """
        if self.config.pooling == "attentive_stats":
            raise ValueError("pooling: attentive_stats weighs single frames, which cached statistics do not hold.")
        return self._head(self._mixed(self.vectors_of(statistics)))

    def vectors_of(self, statistics: torch.Tensor) -> torch.Tensor:
        """Selects from `layer_statistics` `[B, L + 1, 2 D]` the vectors that the model pools: `[B, K, E]`.

        They are not yet standardised. For `attentive_stats` they are those of a new model, which weighs all frames
        equally.

        Raises:
            ValueError: `attentive_stats` mixes the frames of several layers; statistics hold no frames.
        """
        if self.config.pooling == "attentive_stats" and self.config.layer_mix == "weighted":
            raise ValueError("pooling: attentive_stats mixes frames of layers, which cached statistics do not hold.")
        if self.config.pooling == "mean":
            statistics = statistics[..., : statistics.shape[-1] // 2]
        if self.config.layer_mix in ("weighted", "all"):
            return statistics
        last = statistics.shape[1] - 1
        index = last if self.config.layer_mix == "last" else self.config.layer_mix
        return statistics[:, index : index + 1]

    def _mixed(self, vectors: torch.Tensor) -> torch.Tensor:
        """Makes the input of the head, `[B, E]` (or `[B, K E]` for `all`), from one vector per layer, `[B, K, E]`."""
        vectors = self.standardize(vectors)
        if self.config.layer_mix == "weighted" and vectors.shape[1] > 1:
            return (vectors * self.layer_weights.softmax(0)[:, None]).sum(1)
        return vectors.flatten(1)

    def _states(
        self,
        input_values: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        input_features: torch.Tensor | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        family = self.config.backbone_config.model_type
        inputs = input_features if family in FEATURE_BACKBONES else input_values
        if inputs is None:
            raise ValueError(f"{self.main_input_name} is not given; {family} takes nothing else.")
        if family in FEATURE_BACKBONES:
            return self._feature_states(inputs, attention_mask)
        if inputs.shape[1] < min_samples(self.config.backbone_config):
            needed = min_samples(self.config.backbone_config)
            raise ValueError(f"input_values: {inputs.shape[1]} samples make no frame; expected {needed} or more.")
        if attention_mask is None:
            attention_mask = torch.ones_like(inputs, dtype=torch.long)
        return wave_states(self.backbone, inputs, attention_mask.sum(-1))

    def _feature_states(
        self, features: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        is_whisper = self.config.backbone_config.model_type == "whisper"
        if attention_mask is None:
            attention_mask = torch.ones_like(features[:, 0] if is_whisper else features[..., 0], dtype=torch.long)
        lengths = attention_mask.sum(-1)
        if not torch.compiler.is_compiling() and (features.numel() == 0 or bool((lengths < 1).any())):
            needed = min_samples(self.config.backbone_config)
            raise ValueError(f"input_features: a clip makes no frame; expected {needed} samples or more.")
        if is_whisper:
            return whisper_states(self.backbone, features, lengths, self.config.whisper_full_window)
        return conformer_states(self.backbone, features, lengths)

    def _pooled(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.config.pooling == "attentive_stats":
            return self.attention(hidden, mask)
        mean, deviation = masked_mean_std(hidden, mask)
        return mean if self.config.pooling == "mean" else torch.cat([mean, deviation], dim=-1)

    def embed(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The pooled vector of each clip, before the head and its standardisation: `[B, D]`, float32.

        It has `2 D` elements for `mean_std` and `attentive_stats`, and `(L + 1)` times as many for `layer_mix: all`.
        With `layer_mix: weighted` it is the weighted sum of the layers.
        """
        vectors = self._vectors(self._states(input_values, attention_mask, input_features))
        if self.config.layer_mix == "weighted" and vectors.shape[1] > 1:
            return (vectors * self.layer_weights.softmax(0)[:, None]).sum(1)
        return vectors.flatten(1)

    def _vectors(self, states: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Pools the states of the layers: `[B, K, E]`, one vector per pooled layer.

        Each layer is pooled first, then the layers are mixed, so that cached statistics give the same result (the
        deviation of a sum is not the sum of deviations). Attentive pooling needs frames: there the layers are mixed
        first. Only one layer's frames are in memory at a time.
        """
        mix = self.config.layer_mix
        if mix not in ("weighted", "all"):
            last = self.config.backbone_config.num_hidden_layers if mix == "last" else mix
            pooled = self._pooled(*next(state for index, state in enumerate(states) if index == last))
            return pooled[:, None]
        if self.config.pooling != "attentive_stats":
            return torch.stack([self._pooled(hidden, mask) for hidden, mask in states], dim=1)
        weights, total, mask = self.layer_weights.softmax(0), 0.0, None
        for weight, (hidden, mask) in zip(weights, states, strict=True):  # noqa: B007
            total = total + weight * hidden
        return self._pooled(total, mask)[:, None]

    def _head(self, embedding: torch.Tensor) -> torch.Tensor:
        embedding = self.dropout(embedding)
        if self.config.head == "tanh":
            embedding = self.dropout(torch.tanh(call_in_its_dtype(self.projector, embedding)))
        return call_in_its_dtype(self.classifier, embedding)

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        """Computes the logits of a batch of clips, given as the feature extractor returns them.

        There is no `**kwargs`: `Trainer` would conclude that the model divides its loss by `num_items_in_batch`.

        Args:
            input_values: Waves `[B, T]`.
            attention_mask: `[B, T]`, 1 on samples or features of the clip, 0 on the padding behind it; 1 by default.
            labels: `[B]` class indices, or `[B, C]` values if `problem_type` is `regression`.
            input_features: In place of waves, Whisper's log-mel features `[B, M, T]` or w2v-BERT's `[B, T, 2 M]`.
            output_hidden_states: Whether to return the states of all layers; the configuration's value by default.
            output_attentions: Not supported; must not be true.
            return_dict: False: return a tuple; the configuration's value by default.

        Returns:
            `logits` `[B, C]`; with `labels` also the mean cross-entropy or squared error (training has its own losses);
            with `output_hidden_states` also `hidden_states`, L + 1 times `[B, F, D]`.

        Raises:
            ValueError: Attentions are asked for, or the input does not fit the backbone.
        """
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError("output_attentions: this model does not return attention weights; set it to false.")
        states, hidden_states = self._states(input_values, attention_mask, input_features), None
        if self.config.output_hidden_states if output_hidden_states is None else output_hidden_states:
            all_states = list(states)
            states, hidden_states = iter(all_states), tuple(hidden for hidden, _ in all_states)
        logits = self._head(self._mixed(self._vectors(states)))
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.float(), labels.float())
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits.float(), labels)
        output = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()


SILENCE = "silence"
# A longer recording is classified in windows.
MAX_WHOLE_SECONDS = 60.0
# The level is measured every tenth of a second. Half a second at 45 dB below the loudest tenth is rare in fluent
# speech: it occurs once in the 535 clips of EMO-DB.
_LEVEL_SECONDS, _PAUSE_SECONDS = 0.1, 0.5
_SILENCE_DB, _SILENCE_DBFS = -45.0, -70.0


def read_head(blocks: Iterator[np.ndarray], limit: int) -> tuple[np.ndarray, bool]:
    """Joins blocks until they exceed `limit` samples. Returns the wave, and whether it is the whole recording."""
    head, length = [], 0
    for block in blocks:
        head.append(block)
        length += len(block)
        if length > limit:
            return np.concatenate(head), False
    return np.concatenate(head), True


def windows_of(blocks: Iterator[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Cuts a recording longer than `size` samples into windows `[size]`; one starts every `hop` samples.

    The last window ends where the recording ends. All windows have the same length and cover the whole recording.

    Yields:
        The index of the window's first sample, the window, and whether it is the last one.
    """
    buffer, passed, start = np.zeros(0, np.float32), np.zeros(0, np.float32), 0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > size:
            yield start, buffer[:size], False
            passed, buffer, start = buffer[:hop], buffer[hop:], start + hop
    window = np.concatenate([passed, buffer])[-size:]
    yield start + len(buffer) - size, window, True


def metered(blocks: Iterator[np.ndarray], frame: int, levels: list[float]) -> Iterator[np.ndarray]:
    """Passes blocks on and appends the variance of every `frame` samples to `levels`; an offset does not change it."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // frame * frame
        levels.extend(rest[:whole].reshape(-1, frame).var(axis=1).tolist())
        rest = rest[whole:]
        yield block
    if len(rest):
        levels.append(float(rest.var()))


def sounding(levels: np.ndarray, frames_in_pause: int) -> np.ndarray:
    """Which frames are not in a pause, from the levels that [`metered`] measures: boolean, of the same shape.

    A frame is quiet if it is 45 dB below the recording's loudest frame, or below -70 dBFS. A pause is a run of at least
    `frames_in_pause` quiet frames, or a whole recording of quiet frames.
    """
    loudness = 10 * np.log10(levels + 1e-20)
    sound = loudness >= max(loudness.max() + _SILENCE_DB, _SILENCE_DBFS)
    for start, end in _edges(sound):
        if not sound[start] and end - start < min(frames_in_pause, len(sound)):
            sound[start:end] = True
    return sound


class Grid:
    """Lengths in samples: the `size` of a window, the `hop` between two windows, and a `frame`, which divides the hop.

    Raises:
        ValueError: The window is shorter than 0.1 s, the hop is shorter than 0.01 s, or longer than the window.
    """

    def __init__(self, window_seconds: float, hop_seconds: float, sampling_rate_hz: int):
        if not window_seconds >= 0.1:
            raise ValueError(f"window_seconds: {window_seconds} is below 0.1.")
        if not 0.01 <= hop_seconds <= window_seconds:
            raise ValueError(f"hop_seconds: {hop_seconds} is not between 0.01 and window_seconds, {window_seconds}.")
        self.frames_in_hop = int(np.ceil(hop_seconds / _LEVEL_SECONDS - 1e-9))
        self.frame = round(hop_seconds * sampling_rate_hz / self.frames_in_hop)
        self.hop = self.frame * self.frames_in_hop
        self.size = max(round(window_seconds * sampling_rate_hz), self.hop)
        self.frames_in_pause = int(np.ceil(_PAUSE_SECONDS * sampling_rate_hz / self.frame - 1e-9))


class Cutting(NamedTuple):
    """How a recording that is too long to be classified as a whole is cut into windows.

    Attributes:
        grid: Lengths of the windows.
        longest: A recording of more samples is cut.
    """

    grid: Grid
    longest: int

    def pieces(self, blocks: Iterator[np.ndarray]) -> Iterator[tuple[int, np.ndarray, bool]]:
        """Yields the whole recording or its windows, as [`windows_of`]: first sample, wave `(T,)`, is it the last."""
        head, is_whole = read_head(blocks, self.longest)
        if is_whole:
            yield 0, head, True
        else:
            yield from windows_of(chain([head], blocks), self.grid.size, self.grid.hop)


def usual_cutting(config: Any, feature_extractor: Any, max_seconds: float | None = None) -> Cutting:
    """How the pipeline cuts a long recording if it is asked for no timeline; evaluation cuts long clips alike.

    Args:
        config: Of the model; it holds the length of a window.
        feature_extractor: Of the model.
        max_seconds: A longer recording is cut; `MAX_WHOLE_SECONDS` by default, or what the feature extractor takes.

    Raises:
        ValueError: `max_seconds` is not above 0.
    """
    if max_seconds is None:
        max_seconds = MAX_WHOLE_SECONDS
    if not max_seconds > 0:
        raise ValueError(f"max_seconds: {max_seconds} is not above 0.")
    window, rate_hz = usual_window_seconds(config, feature_extractor), feature_extractor.sampling_rate
    grid = Grid(window, window, rate_hz)
    return Cutting(grid, max(grid.size, int(min(max_seconds, most_seconds(feature_extractor)) * rate_hz)))


def usual_window_seconds(config: Any, feature_extractor: Any) -> float:
    """Length of a window if none is asked for: the median length of the training clips, or 4 s."""
    return min(getattr(config, "window_seconds", None) or 4.0, most_seconds(feature_extractor))


def most_seconds(feature_extractor: Any) -> float:
    """The longest input of a feature extractor; Whisper's cuts at 30 s."""
    return getattr(feature_extractor, "chunk_length", float("inf"))


def mean_over_sound(scores: np.ndarray, starts: np.ndarray, grid: Grid, sound: np.ndarray, total: int) -> np.ndarray:
    """The scores `[C]` of a recording in windows: the mean over all sound; arguments as of [`blend_windows`]."""
    hop_of_frame = np.arange(len(sound)) // grid.frames_in_hop
    return blend_windows(scores, starts, grid, sound, total)[hop_of_frame[sound]].mean(axis=0)


def blend_windows(scores: np.ndarray, starts: np.ndarray, grid: Grid, sound: np.ndarray, total: int) -> np.ndarray:
    """Computes scores over time from the scores of overlapping windows.

    A window describes its centre best. Let W be its length and d the distance of a time t from its centre. The part of
    the window that is symmetric around t has the length W - 2 d; the rest, 2 d, lies on one side of t and biases the
    score. The weight of the window at t is the symmetric share, 1 - 2 d / W, a triangle. It is zero at the edges of the
    window, so scores change without steps, and if the hop divides W / 2, the weights have the same sum everywhere. The
    score of a window comes from its sound and not from its pauses, so the weight is multiplied by the share of sound.

    Args:
        scores: `[W, C]`, one row per window.
        starts: `[W]`, first sample of each window.
        sound: Which frames are not in a pause.
        total: Length of the recording in samples.

    Returns:
        `[K, C]`, one row per hop.
    """
    edges = np.minimum(np.arange(-(-total // grid.hop) + 1) * grid.hop, total)
    middles = (edges[:-1] + edges[1:]) / 2
    mixed, weights = np.zeros((len(middles), scores.shape[1])), np.zeros((len(middles), 1))
    for score, start in zip(scores, starts, strict=True):
        near = slice(start // grid.hop, -(-(start + grid.size) // grid.hop))
        distance = np.abs(middles[near] - (start + grid.size / 2))
        share = sound[start // grid.frame : -(-(start + grid.size) // grid.frame)].mean()
        weight = share * np.maximum(0.0, 1 - 2 * distance / grid.size)[:, None]
        mixed[near] += weight * score
        weights[near] += weight
    return mixed / np.maximum(weights, 1e-12)


def runs_of(kinds: np.ndarray, shortest: int) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Merges neighbouring frames of one kind into runs.

    Windows cannot resolve a run shorter than `shortest` frames: it joins the run of sound before or after it.

    Args:
        kinds: One number per frame, -1 in pauses.

    Yields:
        The run's first frame, the frame behind its last one, and the frames that had the run's kind before runs were
        merged; None in a pause.
    """
    merged = kinds.copy()
    for first, end in _edges(kinds):
        if end - first < shortest and kinds[first] >= 0:
            if first and merged[first - 1] >= 0:
                merged[first:end] = merged[first - 1]
            elif end < len(kinds) and kinds[end] >= 0:
                merged[first:end] = kinds[end]
    for first, end in _edges(merged):
        own = first + np.flatnonzero(kinds[first:end] == merged[first])
        yield first, end, own if merged[first] >= 0 else None


def _edges(values: np.ndarray) -> list[tuple[int, int]]:
    """First index and end of each run of equal values."""
    return list(pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]))


class SERPipeline(ChunkPipeline):
    """The pipeline that `pipeline("audio-classification", model=..., trust_remote_code=True)` returns.

    Example:
        >>> classify = pipeline("audio-classification", model="user/name", trust_remote_code=True)
        >>> classify("clip.wav")
        [{'label': 'anger', 'score': 0.93}, {'label': 'neutral', 'score': 0.05}, ...]
        >>> classify("call.mp3", timeline=True)
        [{'start': 0.0, 'end': 7.0, 'label': 'neutral', 'score': 0.8, 'scores': [...]}, {'start': 7.0, ...}, ...]
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Classifies one recording, or each recording of a list, a generator or a column of a dataset.

        Args:
            inputs: Any input of [`open_audio`], or a list, tuple, generator, `datasets` column or dataset of them.
            top_k: How many labels to return; all by default.
            function_to_apply: `softmax`, `sigmoid` or `none`; by default, the model's `problem_type` decides.
            calibrate_prior: Whether scores assume the class frequencies of the corpus; the saved choice by default.
            timeline: Whether to return segments with their times in place of one answer for the whole recording.
            window_seconds: Length of one window; asks for a timeline. By default the median length of the training
                clips, or 4.
            hop_seconds: Time between two windows, a quarter of a window by default; asks for a timeline.
            max_seconds: A longer recording is classified in windows without overlap, and the answer is the mean of
                their scores over all sound; by default 60, or less if the feature extractor takes less.
            return_embedding: Whether to return the pooled vector before the head in place of scores, see
                [`SERForAudioClassification.embed`]; of a recording in windows, their mean.
            batch_size: How many recordings or windows the model processes at a time; it does not change scores.

        Returns:
            A list of `{"label": str, "score": float}`, best first; for `problem_type: regression` in the model's order.
            With `timeline`, a list of segments `{"start", "end", "label", "score", "scores"}`, with times in seconds.
            `scores` is a list as above, averaged over the segment. Pauses of half a second or more have the label
            `silence`, the score None and no scores. A recording of one window is one segment with the scores of the
            whole; a regression has one segment per hop, without a label.
            With `return_embedding`, `np.ndarray` of shape `(D,)`, float32.

        Raises:
            FileNotFoundError, TypeError, ValueError: A recording cannot be read, is shorter than one frame, or is
                silent. The message names it.
        """
        single = isinstance(inputs, (str, bytes, dict, PathLike, np.ndarray, torch.Tensor)) or hasattr(inputs, "read")
        if kwargs.get("batch_size") is None and self._batch_size is None:
            many_windows = single or self._sanitize_parameters(**kwargs)[0].get("timeline")
            kwargs["batch_size"] = 16 if many_windows and self.device.type != "cpu" else 1
        if single or not isinstance(inputs, Iterable) or isinstance(inputs, (GeneratorType, torch.utils.data.Dataset)):
            return super().__call__(inputs, **kwargs)
        answers = super().__call__((item for item in inputs), **kwargs)
        return list(answers) if isinstance(inputs, Sized) else answers

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        calibrate_prior: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("timeline", "window_seconds", "hop_seconds", "max_seconds", "return_embedding")
        cutting = {name: kwargs.pop(name) for name in known if kwargs.get(name) is not None}
        kwargs = {name: value for name, value in kwargs.items() if name not in known}
        kwargs.pop("local_files_only", None)  # `pipeline()` passes it on after it has used it
        if kwargs:
            raise TypeError(f"Unexpected arguments: {', '.join(kwargs)}.")
        if "window_seconds" in cutting or "hop_seconds" in cutting:
            cutting.setdefault("timeline", True)
        if function_to_apply not in (None, "softmax", "sigmoid", "none"):
            raise ValueError(f"function_to_apply: {function_to_apply!r} is not softmax, sigmoid or none.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k: {top_k} is below 1.")
        if calibrate_prior is not None and getattr(self.model.config, "calibration_bias", None) is None:
            raise ValueError("calibrate_prior: class biases were never fitted for this model; leave it out.")
        if cutting.get("return_embedding") and cutting.get("timeline"):
            raise ValueError(
                "return_embedding: an embedding is one vector for the whole recording; leave out timeline."
            )
        asked = {"return_embedding": cutting.pop("return_embedding")} if "return_embedding" in cutting else {}
        ranking = {"top_k": top_k, "function_to_apply": function_to_apply, "calibrate_prior": calibrate_prior}
        return (
            cutting,
            asked,
            {**cutting, **asked, **{name: value for name, value in ranking.items() if value is not None}},
        )

    def preprocess(
        self,
        inputs: Any,
        timeline: bool = False,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        max_seconds: float | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yields the model's inputs for a recording: one for the whole, or one per window while it is read."""
        cutting = self._cutting(timeline, window_seconds, hop_seconds, max_seconds)
        levels: list[float] = []
        name, blocks = open_audio(inputs, self.feature_extractor.sampling_rate)
        for start, window, is_last in cutting.pieces(metered(blocks, cutting.grid.frame, levels)):
            if start == 0 and is_last:
                self._check(window, name, silence_allowed=timeline)
            about: dict[str, Any] = {"start": start}
            if is_last:
                about |= {"name": name, "total": start + len(window), "levels": np.asarray(levels)}
            yield {**self._features(window), "about": about, "is_last": is_last}

    def read_short(self, source: Any, max_seconds: float | None = None) -> np.ndarray | None:
        """Reads a recording that is classified as a whole: `(T,)`; None if it is longer than `max_seconds`.

        Raises:
            FileNotFoundError, TypeError, ValueError: As in a call of the pipeline.
        """
        name, blocks = open_audio(source, self.feature_extractor.sampling_rate)
        wave, is_whole = read_head(blocks, self._cutting(max_seconds=max_seconds).longest)
        if is_whole:
            self._check(wave, name)
        return wave if is_whole else None

    def _check(self, wave: np.ndarray, name: str, silence_allowed: bool = False) -> None:
        config = getattr(self.model.config, "backbone_config", self.model.config)
        needed, rate_hz = min_samples(config), self.feature_extractor.sampling_rate
        if len(wave) < needed:
            milliseconds = f"{1000 * len(wave) / rate_hz:.0f} ms, one frame needs {1000 * needed / rate_hz:.0f} ms"
            raise ValueError(f"{name}: is too short: {len(wave)} samples at {rate_hz} Hz ({milliseconds}).")
        if not silence_allowed and wave.min() == wave.max():
            raise ValueError(f"{name}: is silent: every sample is {wave[0]:g}; record or export it again.")

    def _features(self, wave: np.ndarray) -> dict[str, torch.Tensor]:
        extractor = self.feature_extractor
        features = extractor(
            wave,
            sampling_rate=extractor.sampling_rate,
            padding="max_length" if hasattr(extractor, "chunk_length") else True,  # as in training
            return_attention_mask=True,
            return_tensors="pt",
        )
        return dict(features.to(self.dtype))

    def _forward(self, model_inputs: dict[str, Any], return_embedding: bool = False) -> dict[str, Any]:
        about, is_last = model_inputs.pop("about"), model_inputs.pop("is_last")
        # As Python numbers: a long recording would keep thousands of small tensors, and they would fragment the memory
        # of the large ones.
        values = self.model.embed(**model_inputs) if return_embedding else self.model(**model_inputs).logits
        return {"is_last": is_last, "about": about, "values": values.float().tolist()}

    def postprocess(
        self,
        outputs: list[dict[str, Any]],
        top_k: int | None = None,
        function_to_apply: str | None = None,
        calibrate_prior: bool | None = None,
        timeline: bool = False,
        **cutting: Any,
    ) -> Any:
        """Ranks the scores of one recording, or makes its timeline."""
        is_embedding = cutting.get("return_embedding", False)
        logits = torch.tensor([output["values"] for output in outputs], dtype=torch.float64)
        if not logits.isfinite().all():
            raise ValueError(
                f"{outputs[-1]['about']['name']}: the model's logits are not finite, so there are no scores. Load the "
                "model with dtype float32; if that does not help, its weights are damaged: download or train it again."
            )
        scores = logits.reshape(len(outputs), -1).numpy()
        if not is_embedding:
            scores = self._scores(torch.from_numpy(scores) + self._bias(calibrate_prior), function_to_apply)
        about = outputs[-1]["about"]
        if len(outputs) == 1 and not timeline:
            return scores[0].astype(np.float32) if is_embedding else self._ranked(scores[0], top_k)
        grid = self._grid(timeline, cutting.get("window_seconds"), cutting.get("hop_seconds"))
        sound = sounding(about["levels"], grid.frames_in_pause)
        if len(outputs) == 1:
            return [self._segment(0, about["total"], scores[0] if sound.any() else None, top_k)]
        starts = np.array([output["about"]["start"] for output in outputs])
        if timeline:
            by_hop = blend_windows(scores, starts, grid, sound, about["total"])
            hop_of_frame = np.arange(len(sound)) // grid.frames_in_hop
            is_regression = self.model.config.problem_type == "regression"
            kinds = (np.arange(len(by_hop)) if is_regression else by_hop.argmax(axis=1))[hop_of_frame]
            return [
                self._segment(
                    first * grid.frame,
                    min(end * grid.frame, about["total"]),
                    None if own is None else by_hop[hop_of_frame[own]].mean(axis=0),
                    top_k,
                )
                for first, end, own in runs_of(np.where(sound, kinds, -1), grid.frames_in_hop)
            ]
        if not sound.any():
            raise ValueError(f"{about['name']}: is silent throughout; record or export it again.")
        mean = mean_over_sound(scores, starts, grid, sound, about["total"])
        return mean.astype(np.float32) if is_embedding else self._ranked(mean, top_k)

    def _segment(self, start: int, end: int, scores: np.ndarray | None, top_k: int | None) -> dict[str, Any]:
        """Makes the segment from sample `start` to `end` of a timeline; `scores` `[C]` are None in silence."""
        rate_hz = self.feature_extractor.sampling_rate
        segment = {"start": round(start / rate_hz, 3), "end": round(end / rate_hz, 3)}
        if scores is None:
            return {**segment, "label": SILENCE, "score": None, "scores": []}
        ranked = self._ranked(scores, top_k)
        is_regression = self.model.config.problem_type == "regression"
        return {**segment, **({"label": None, "score": None} if is_regression else ranked[0]), "scores": ranked}

    def _bias(self, calibrate_prior: bool | None) -> torch.Tensor:
        """The bias `[C]` to add to the saved logits for the requested `calibrate_prior`; 0 if they agree."""
        config = self.model.config
        if calibrate_prior is None or calibrate_prior == config.calibrate_prior:
            return torch.zeros(())
        return torch.tensor(config.calibration_bias, dtype=torch.float64) * (1 if calibrate_prior else -1)

    def _scores(self, logits: torch.Tensor, function_to_apply: str | None) -> np.ndarray:
        if self.model.config.problem_type == "multi_label_classification" and function_to_apply is None:
            raise ValueError(
                "problem_type: multi_label_classification is not supported: scores of its classes do not sum to "
                "1; choose function_to_apply, sigmoid for example."
            )
        by_type = {"regression": "none"}
        function = function_to_apply or by_type.get(self.model.config.problem_type, "softmax")
        return {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "none": logits}[function].numpy()

    def _ranked(self, scores: np.ndarray, top_k: int | None) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")
        if self.model.config.problem_type == "regression":
            order = np.arange(len(scores))
        id2label = self.model.config.id2label
        return [{"label": id2label[int(index)], "score": float(scores[index])} for index in order[:top_k]]

    def _grid(self, timeline: bool, window_seconds: float | None, hop_seconds: float | None) -> Grid:
        most = most_seconds(self.feature_extractor)
        if window_seconds is None:
            window_seconds = usual_window_seconds(self.model.config, self.feature_extractor)
        trained = getattr(self.model.config, "window_seconds", None)
        if trained and window_seconds > trained:
            logger.warning_once(
                f"window_seconds: {window_seconds:g} is longer than the median training clip ({trained:g} s); "
                "a long window averages over changes of emotion."
            )
        if window_seconds > most:
            raise ValueError(f"window_seconds: {window_seconds}, but the model hears {most} at most.")
        if hop_seconds is None or not timeline:
            hop_seconds = window_seconds / 4 if timeline else window_seconds
        return Grid(window_seconds, hop_seconds, self.feature_extractor.sampling_rate)

    def _cutting(
        self,
        timeline: bool = False,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        max_seconds: float | None = None,
    ) -> Cutting:
        grid = self._grid(timeline, window_seconds, hop_seconds)
        if timeline:
            return Cutting(grid, grid.size)
        usual = usual_cutting(self.model.config, self.feature_extractor, max_seconds)
        return Cutting(grid, max(grid.size, usual.longest))


SERConfig.register_for_auto_class()
SERForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")

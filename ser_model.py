"""Speech emotion recognition: configuration, model and pipeline, in the one file that travels to the Hub.

Transformers copies this file beside the weights, so it imports nothing of this project: torch, transformers, numpy
and the standard library at the top; soundfile and soxr inside the functions that read audio.
"""

import io
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sized
from functools import partial
from itertools import chain, pairwise
from os import PathLike, fspath
from os.path import abspath, basename, isdir
from types import GeneratorType
from typing import Any

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
# Two MP3 frames. A decoder may drop that much at the edges of an MP3; whatever is missing beyond it was cut off.
_DECODER_SLACK_SAMPLES = 2 * 1152


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
    block_seconds: float = 10.0,
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
            while data := process.stdout.read(4 * max(1, int(block_seconds * rate_hz))):
                yield np.frombuffer(data[: len(data) // 4 * 4], np.float32), rate_hz
        if process.returncode:
            errors.seek(0)
            reason = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ValueError(f"{name}: ffmpeg cannot read it ({' '.join(reason)})")


# Speech encoders that take raw waves through a stack of convolutions, and share the names of their parts.
WAVE_BACKBONES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
# Speech encoders that take log-mel features, which their feature extractors make of waves.
FEATURE_BACKBONES = ("whisper", "wav2vec2-bert")
POOLINGS = ("mean", "mean_std", "attentive_stats")
HEADS = ("tanh", "linear")


class SERConfig(PreTrainedConfig):
    """Configuration of [`SERForAudioClassification`].

    Args:
        backbone_config: The speech encoder's own configuration, an object or a dict with its `model_type`.
        pooling: How frames become one vector: `mean`, `mean_std` or `attentive_stats`, always over valid frames.
        layer_mix: Which hidden states are pooled: `last`, `weighted` (a learned weighted sum of all), `all` (each
            layer's vector beside the others), or the number of one layer (0 is what enters the first layer).
        head: `tanh`, two linear layers with tanh between, or `linear`, a single one.
        classifier_proj_size: Width of the layer between pooling and classes, of `head: tanh`.
        final_dropout: Dropout before each of the two linear layers.
        attention_heads: Heads of `attentive_stats`.
        whisper_full_window: Whisper alone. True: each clip is the start of 30 s, the rest silence, as in pretraining.
            False: the layers run over the clip alone, see [`whisper_states`]. Either way its own frames are pooled.
        calibration_temperature: What the logits were divided by to calibrate them; already in the classifier's weights.
        calibration_bias: What is added to each class's logit for scores that suppose the frequencies of the corpus.
        calibrate_prior: Whether `calibration_bias` is in the classifier's bias already.
        window_seconds: Window of a timeline, the median length of the clips that the model was trained on; 4 s where
            nothing is known.

    Raises:
        ValueError: A value is outside what the backbone offers.
    """

    model_type = "ser"
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

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # A dict of its own for each: `pipeline()` writes into the one it reads.
        self.custom_pipelines = {
            "audio-classification": {
                "impl": "ser_model.SERPipeline",
                "pt": ["AutoModelForAudioClassification"],
                "type": "audio",
            }
        }
        self._check()

    def _check(self) -> None:
        family, known = self.backbone_config.model_type, WAVE_BACKBONES + FEATURE_BACKBONES
        if family not in known:
            raise ValueError(f"backbone_config: model_type {family!r} is not one of {', '.join(known)}.")
        if getattr(self.backbone_config, "add_adapter", False):
            raise ValueError("backbone_config: add_adapter shortens the frames after the encoder; set it to false.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: {self.pooling!r} is not one of {', '.join(POOLINGS)}.")
        if str(self.layer_mix).isdigit():
            self.layer_mix = int(self.layer_mix)
        layers = self.backbone_config.num_hidden_layers
        if isinstance(self.layer_mix, int) and not 0 <= self.layer_mix <= layers:
            raise ValueError(f"layer_mix: layer {self.layer_mix} of a backbone of {layers}; expected 0 to {layers}.")
        if not isinstance(self.layer_mix, int) and self.layer_mix not in ("last", "weighted", "all"):
            raise ValueError(f"layer_mix: {self.layer_mix!r} is not last, weighted, all or a layer's number.")
        if self.layer_mix == "all" and self.pooling == "attentive_stats":
            raise ValueError("layer_mix: all keeps every layer apart, and attentive_stats weighs the frames of one.")
        if self.head not in HEADS:
            raise ValueError(f"head: {self.head!r} is not one of {', '.join(HEADS)}.")

    def vector_shape(self) -> tuple[int, int]:
        """Vectors that are pooled from a clip, one a layer where layers are pooled apart, and the size of each."""
        frames_are_mixed = self.pooling == "attentive_stats"
        many = self.layer_mix in ("weighted", "all") and not frames_are_mixed
        size = self.backbone_config.hidden_size
        return (self.backbone_config.num_hidden_layers + 1 if many else 1), (
            size if self.pooling == "mean" else 2 * size
        )


def num_frames(num_samples: Any, config: PreTrainedConfig) -> Any:
    """Number of frames that the backbone's convolutions make of `num_samples` samples, both ints or int tensors.

    Each convolution, without padding, turns `n` into `floor((n - kernel) / stride) + 1`.
    """
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


def min_samples(config: PreTrainedConfig) -> int:
    """The least number of samples that make one frame: 400 (25 ms) for HuBERT's convolutions and Whisper's window.

    A frame of w2v-BERT is two such windows, 160 samples apart.
    """
    if config.model_type == "wav2vec2-bert":
        return 560
    kernels, strides = getattr(config, "conv_kernel", (400,)), getattr(config, "conv_stride", (160,))
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Boolean mask `[B, size]`, true in the first `lengths[b]` places of row `b`."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def masked_group_norm(hidden: torch.Tensor, frames: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """GroupNorm of one channel a group, with each clip's statistics taken over its own frames alone.

    HuBERT-base and its kin normalise their first convolution over time, padding included, so that a clip's features
    depend on the batch it is in. Here they do not, and without padding the result is `norm`'s own.

    Args:
        hidden: `[B, D, F]`.
        frames: `[B]`, number of valid frames.
        norm: The backbone's layer, whose weights are used.
    """
    if not torch.compiler.is_compiling() and bool((frames == hidden.shape[-1]).all()):
        return norm(hidden)
    # In float32 whatever autocast says: sums over thousands of frames overflow float16 and lose bfloat16's 8 bits.
    values = hidden.float()
    mean, variance = _masked_moments(values, frames)
    scale = norm.weight[None, :, None] * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(norm.bias[None, :, None] - mean * scale, values, scale).to(hidden.dtype)


def _masked_moments(values: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel of `values` `[B, D, F]` over each clip's own frames, both `[B, D, 1]`."""
    if torch.compiler.is_compiling():
        mask, count = length_mask(frames, values.shape[-1])[:, None], frames[:, None, None]
        mean = values.masked_fill(~mask, 0.0).sum(-1, keepdim=True) / count
        return mean, (values - mean).masked_fill(~mask, 0.0).square().sum(-1, keepdim=True) / count
    # Clip by clip, this tensor, the largest of all, is read once and never copied.
    rows = zip(values.split(1), frames.tolist(), strict=True)
    moments = [torch.var_mean(row[..., :count], dim=-1, correction=0, keepdim=True) for row, count in rows]
    variance, mean = (torch.cat(parts) for parts in zip(*moments, strict=True))
    return mean, variance


def wave_features(encoder: nn.Module, waves: torch.Tensor, samples: torch.Tensor, config: Any) -> torch.Tensor:
    """The backbone's convolutions over waves `[B, T]` of `samples[b]` valid samples each: features `[B, F, D]`."""
    hidden = waves[:, None]
    for index, layer in enumerate(encoder.conv_layers):
        if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            kernel, stride = config.conv_kernel[index], config.conv_stride[index]
            frames = (samples - kernel) // stride + 1  # the group norm is on the first convolution only
            hidden = layer.activation(masked_group_norm(layer.conv(hidden), frames, layer.layer_norm))
        else:
            hidden = layer(hidden)
    return hidden.transpose(1, 2)


def position_features(embedding: nn.Module, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The backbone's convolutional position embedding of `hidden` `[B, F, D]`, blind to frames outside `mask`.

    One convolution sees zeros beyond the clip, in a batch as alone. Where there are several (data2vec-audio), or a
    norm before it (mHuBERT), what they write beyond the clip must be put back to zero each time.
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
    """SpecAugment's time mask (arXiv 1904.08779): spans that start and end inside each clip's own frames.

    As many spans are drawn as make `probability` of the clip's frames when none overlap, rounded at random, but no more
    than fit side by side into the clip; no two start at the same frame. A clip alone is masked as transformers masks it
    (`_compute_mask_indices`), and in any batch as it is alone.

    Returns:
        Boolean `[B, size]`, true where a frame is masked.
    """
    wanted = probability * frames / length + torch.rand(frames.shape, device=frames.device)
    spans = torch.minimum(wanted.floor().clamp(min=min_spans), frames // length)  # a clip below one span stays whole
    most = int(spans.max().item())
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
    """Masks spans of frames and of features of `hidden` `[B, F, D]`, as the backbone's configuration asks."""
    config = backbone.config
    if not getattr(config, "apply_spec_augment", True):
        return hidden
    if config.mask_time_prob > 0:
        spans = (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks)
        mask = span_mask(frames, hidden.shape[1], *spans)[..., None]
        vector = getattr(backbone, "masked_spec_embed", hidden.new_zeros(()))  # Whisper learns none
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
    """WavLM's attention, with its projections called as the modules that they are.

    The stock one hands their weights to a function, which passes by whatever stands in their place: LoRA would never
    be trained.

    Args:
        hidden: `[B, F, D]`.
        mask: `[B, F]`, true on the clip's frames; None: all are.
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


def wave_states(
    backbone: nn.Module, waves: torch.Tensor, samples: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs the backbone over `waves` `[B, T]` and yields `(hidden states [B, F, D], frame mask [B, F])` of each layer.

    The backbone's own modules in the backbone's own order, with the mask handed to every one of them. The first
    yield is what enters the first layer, the last one is the stock model's `last_hidden_state`. Layers not asked for
    are not run. LayerDrop is left out: a layer that is skipped has no gradient, which DDP takes for an error.

    Args:
        samples: `[B]`, number of valid samples of each row.
    """
    config, encoder = backbone.config, backbone.encoder
    stable = getattr(config, "do_stable_layer_norm", False)  # the norm comes after the layers, not before
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
    is_wavlm, bias = config.model_type == "wavlm", None
    if not is_wavlm:
        bias = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=mask)
    for index, layer in enumerate(encoder.layers, start=1):
        if is_wavlm:
            hidden, bias = layer(hidden, attention_mask=mask, position_bias=bias)
        else:
            hidden = layer(hidden, attention_mask=bias)
        is_last = index == len(encoder.layers)
        yield (encoder.layer_norm(hidden) if stable and is_last else hidden), mask


def whisper_states(
    encoder: nn.Module, features: torch.Tensor, lengths: torch.Tensor, full_window: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs Whisper's encoder over log-mel `features` `[B, M, T]` and yields as [`wave_states`] does.

    Two mel frames make a frame; whatever follows them is left out of the frame mask. With `full_window` the layers
    see all of `T`, silence included, as the stock encoder does. Without, they see the clip's frames alone: what
    enters the first layer is the same, but from there on no frame attends to silence, and a clip of 3 s takes a tenth
    of the time. What comes out is then not what the pretrained encoder gives. With random weights in the shape of
    whisper-tiny and whisper-small, the mean of the last layer over a clip of 3 s moves by 0.4 and 0.8 of its length,
    two and six times as far as clips lie from their mean (`benchmarks/whisper_window.py`): a head serves only the way
    that it was trained with, which the configuration keeps.

    Args:
        lengths: `[B]`, number of mel frames of each clip.

    Raises:
        ValueError: `T` is not what `full_window` needs, or more than the encoder has positions for.
    """
    config, positions = encoder.config, encoder.embed_positions.weight
    columns = features.shape[-1]
    if columns > 2 * len(positions) or (full_window and columns < 2 * len(positions)):
        expected = "exactly" if full_window else "at most"
        raise ValueError(f"input_features: {columns} mel frames; this encoder takes {expected} {2 * len(positions)}.")
    if encoder.training:
        features = spec_augment(features.transpose(1, 2), lengths, encoder).transpose(1, 2)
    frames = (lengths + 1) // 2
    size = (columns + 1) // 2
    if not full_window and not torch.compiler.is_compiling():
        size = int(frames.max())
        features = features[..., : 2 * size + 1]  # the convolutions reach one mel frame beyond the last frame
    hidden = nn.functional.gelu(encoder.conv2(nn.functional.gelu(encoder.conv1(features))))
    hidden = hidden.transpose(1, 2)[:, :size] + positions[:size]
    hidden = nn.functional.dropout(hidden, encoder.dropout, encoder.training)
    mask, bias = length_mask(frames, size), None
    yield hidden, mask
    if not full_window:
        bias = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=mask)
    for index, layer in enumerate(encoder.layers, start=1):
        hidden = layer(hidden, bias)
        yield (encoder.layer_norm(hidden) if index == len(encoder.layers) else hidden), mask


def conformer_states(
    backbone: nn.Module, features: torch.Tensor, frames: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Runs w2v-BERT 2.0 over stacked log-mel `features` `[B, F, 2 M]` and yields as [`wave_states`] does.

    Its convolutions look back only, so that padding behind a clip never reaches it; attention is masked. LayerDrop is
    left out as in `wave_states`.

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
    places = None if encoder.embed_positions is None else encoder.embed_positions(hidden)
    for layer in encoder.layers:
        hidden = layer(hidden, attention_mask=bias, relative_position_embeddings=places, conv_attention_mask=mask)
        yield hidden, mask


def encoder_of(backbone: nn.Module) -> nn.Module:
    """The part of a backbone that holds its `layers`: of Whisper the encoder is all there is."""
    return getattr(backbone, "encoder", backbone)


def norm_behind_layers(backbone: nn.Module) -> nn.Module | None:
    """The norm that follows the last layer, where there is one."""
    config = backbone.config
    has_one = config.model_type == "whisper" or getattr(config, "do_stable_layer_norm", False)
    return encoder_of(backbone).layer_norm if has_one else None


def masked_mean_std(hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of `hidden` `[B, F, D]` over the frames of `mask` `[B, F]`, each `[B, D]`, float32.

    The deviation is the population's, `sqrt(mean((h - mean)^2) + 1e-8)`: 1e-8 keeps its slope finite for one frame.
    """
    weight = mask[..., None].float()
    count = weight.sum(1)
    mean = (hidden.float() * weight).sum(1) / count
    variance = ((hidden.float() - mean[:, None]).square() * weight).sum(1) / count
    return mean, (variance + 1e-8).sqrt()


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling with several heads (arXiv 1803.10963, eq. 3 to 6; heads as in ECAPA-TDNN's kin).

    Each head scores every frame from the frame and the clip's own mean and deviation, and weighs its share of the
    channels: `[B, F, D]` becomes the weighted mean and deviation, `[B, 2 D]`.
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
        scores = self.score(torch.cat([hidden, context], dim=-1).to(self.score[0].weight.dtype)).float()
        weights = scores.masked_fill(~mask[..., None], float("-inf")).softmax(dim=1)[..., None]  # [B, F, heads, 1]
        channels = hidden.unflatten(-1, (self.heads, -1))  # [B, F, heads, D / heads]
        mean = (weights * channels).sum(1)
        variance = (weights * (channels - mean[:, None]).square()).sum(1)
        return torch.cat([mean.flatten(1), (variance + 1e-8).sqrt().flatten(1)], dim=-1)


class Standardize(nn.Module):
    """Subtracts the training clips' mean and divides by their deviation: `[..., K, E]` to `[..., K, E]`.

    The dimensions of a pretrained encoder's states differ in size by orders of magnitude, and a small head learns from
    the large ones alone (`benchmarks/RESULTS.md`). Without [`fit`] nothing changes.
    """

    def __init__(self, rows: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(rows, size))
        self.register_buffer("scale", torch.ones(rows, size))

    @torch.no_grad()
    def fit(self, vectors: torch.Tensor) -> None:
        """Takes mean and deviation from `vectors` `[N, K, E]`; a dimension that is the same in every clip stays."""
        vectors = vectors.double()
        deviation = vectors.std(0, correction=0)
        self.mean.copy_(vectors.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6 * vectors.abs().amax(0), 1 / deviation, 1.0))

    def _apply(self, fn, recurse=True):
        """Moves, but never leaves float32: a mean far from zero, rounded to 8 bits, is off by more than a deviation."""
        exact = self.mean, self.scale
        super()._apply(fn, recurse)
        if not exact[0].is_meta:
            self.mean, self.scale = (values.to(self.mean.device) for values in exact)
        return self

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return (vectors - self.mean) * self.scale


def whisper_encoder_class() -> type[PreTrainedModel]:
    """Whisper's encoder alone, which no auto class knows."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


def new_backbone(config: PreTrainedConfig) -> PreTrainedModel:
    """A backbone of random weights."""
    if config.model_type == "whisper":
        return whisper_encoder_class()._from_config(config)
    return AutoModel.from_config(config)


def new_feature_extractor(config: PreTrainedConfig) -> Any:
    """The feature extractor that goes with a backbone made from scratch."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    kwargs = {"sampling_rate": SAMPLING_RATE_HZ, "return_attention_mask": True}
    if config.model_type == "whisper":
        seconds = config.max_source_positions // 50
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds, **kwargs)
    if config.model_type == "wav2vec2-bert":
        mels = config.feature_projection_input_dim // 2
        return SeamlessM4TFeatureExtractor(feature_size=mels, num_mel_bins=mels, **kwargs)
    return Wav2Vec2FeatureExtractor(do_normalize=True, **kwargs)


class SERForAudioClassification(PreTrainedModel):
    """A speech backbone, pooling over the valid frames, and two linear layers with tanh between.

    The scores of a clip do not depend on the batch it is in. Weights of the backbone keep the names they have in
    their own checkpoint, under `backbone.`.
    """

    config_class = SERConfig
    base_model_prefix = "backbone"
    main_input_name = "input_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules_strict = ("standardize",)
    # What the backbone supports is the backbone's to say: it checks the choice again when it is made.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: SERConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        self.backbone = new_backbone(config.backbone_config) if backbone is None else backbone
        if config.backbone_config.model_type in FEATURE_BACKBONES:
            self.main_input_name = "input_features"
        if config.backbone_config.model_type == "wavlm":
            for layer in self.backbone.encoder.layers:
                layer.attention.torch_multi_head_self_attention = partial(projected_attention, layer.attention)
        self._make_head()
        self._freeze_unused()
        self.post_init()

    def _make_head(self) -> None:
        """Everything behind the backbone's layers."""
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
        """Puts a new head of random weights on the backbone, which pools the layers that `layer_mix` names."""
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
    def from_backbone(cls, name_or_path: str, attn_implementation: str | None = None, **config: Any):
        """A new head on a pretrained backbone, given by its name on the Hub or its folder.

        Args:
            config: What [`SERConfig`] takes, and what is to differ in `backbone_config`, as a dict.

        Raises:
            ValueError: A weight of the backbone is missing in the checkpoint, or one of the checkpoint finds no place.
        """
        overrides = config.pop("backbone_config", None) or {}
        # Half-precision checkpoints, Whisper's for one, are trained in float32 too, under autocast where asked for.
        kwargs: dict[str, Any] = {"dtype": torch.float32}
        if attn_implementation is not None:
            kwargs["attn_implementation"] = attn_implementation
        kind = AutoModel
        if AutoConfig.from_pretrained(name_or_path).model_type == "whisper":
            kind, kwargs["key_mapping"] = whisper_encoder_class(), {r"^(model\.)?encoder\.": ""}
        backbone, report = kind.from_pretrained(name_or_path, output_loading_info=True, **overrides, **kwargs)
        parts = tuple(name for name, _ in backbone.named_children())
        # Weights outside the backbone's parts are a head that the checkpoint was pretrained with, for which there is
        # no use, nor for Whisper's decoder. SpecAugment's vector is missing in some official checkpoints, and is
        # learned when it is used.
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
        backbone.config._attn_implementation = implementation  # which a new outer configuration resets
        if isdir(name_or_path):
            backbone.config.name_or_path = basename(abspath(name_or_path))  # what is shared names no folder of ours
        return cls(config, backbone=backbone)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The backbone initialises its own weights, by its own rules; here are the head's.
        if isinstance(module, nn.Linear) and module in set(self._head_linears()):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if hasattr(self, "attention") and module is self.attention.score[-1]:
                nn.init.zeros_(module.weight)  # it starts as the plain mean and deviation
        elif module is self and hasattr(self, "layer_weights"):
            nn.init.zeros_(self.layer_weights)
        elif isinstance(module, Standardize):  # a checkpoint from before there was one
            nn.init.zeros_(module.mean)
            nn.init.ones_(module.scale)

    def _head_linears(self) -> list[nn.Linear]:
        pooling = getattr(self, "attention", None)
        scores = [layer for layer in pooling.score if isinstance(layer, nn.Linear)] if pooling else []
        return [*scores, *([self.projector] if self.config.head == "tanh" else []), self.classifier]

    def _freeze_unused(self) -> None:
        """Layers above `layer_mix` are not run, so not trained: DDP refuses parameters without gradient."""
        if isinstance(self.config.layer_mix, int):
            unused = list(encoder_of(self.backbone).layers[self.config.layer_mix :])
            norm = norm_behind_layers(self.backbone)
            if norm is not None and unused:
                unused.append(norm)
            for module in unused:
                module.requires_grad_(False)

    def freeze_feature_encoder(self) -> None:
        """Keeps the weights of the convolutions that turn samples or features into frames; w2v-BERT has none."""
        for name in ("feature_extractor", "conv1", "conv2"):
            if hasattr(self.backbone, name):
                getattr(self.backbone, name).requires_grad_(False)

    def freeze_base_model(self) -> None:
        """Keeps the weights of the whole backbone; only the head is trained."""
        self.backbone.requires_grad_(False)

    def freeze_layers(self, count: int) -> None:
        """Keeps the weights of the convolutions, what follows them, and the first `count` layers.

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
        """Mean and deviation over the valid frames of every layer: `[B, L + 1, 2 D]`, float32, as `pool` mixes them."""
        states = self._states(input_values, attention_mask, input_features)
        return torch.stack([torch.cat(masked_mean_std(hidden, mask), dim=-1) for hidden, mask in states], dim=1)

    def classify(self, statistics: torch.Tensor) -> torch.Tensor:
        """Logits `[B, C]` from `layer_statistics` `[B, L + 1, 2 D]`; what `forward` gives for the same clips.

        Raises:
            ValueError: `attentive_stats` weighs frames, and statistics hold none.
        """
        if self.config.pooling == "attentive_stats":
            raise ValueError("pooling: attentive_stats weighs single frames, which cached statistics do not hold.")
        return self._head(self._mixed(self.vectors_of(statistics)))

    def vectors_of(self, statistics: torch.Tensor) -> torch.Tensor:
        """Those of `layer_statistics` `[B, L + 1, 2 D]` that the model pools, `[B, K, E]`, not yet standardised.

        Of `attentive_stats` it is what a new model pools, which weighs all frames alike.

        Raises:
            ValueError: `attentive_stats` mixes the frames of layers, and statistics hold none.
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
        """The vector that enters the head, `[B, E]` or for `all` `[B, K E]`, from one a layer, `[B, K, E]`."""
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
        if (input_features if family in FEATURE_BACKBONES else input_values) is None:
            raise ValueError(f"{self.main_input_name} is not given; {family} takes nothing else.")
        if family in FEATURE_BACKBONES:
            return self._feature_states(input_features, attention_mask)
        if input_values.shape[1] < min_samples(self.config.backbone_config):
            needed = min_samples(self.config.backbone_config)
            raise ValueError(f"input_values: {input_values.shape[1]} samples make no frame; expected {needed} or more.")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_values, dtype=torch.long)
        return wave_states(self.backbone, input_values, attention_mask.sum(-1))

    def _feature_states(self, features: torch.Tensor, attention_mask: torch.Tensor | None):
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

    def _embedding(self, states: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """The vector of a clip that enters the head.

        A deviation of a sum is not the sum of deviations: each layer is pooled, then mixed, so that statistics cached
        per layer give the same. Attention needs single frames, so there the layers are mixed, then pooled. Frames of
        one layer are held at a time.
        """
        mix = self.config.layer_mix
        if mix not in ("weighted", "all"):
            last = self.config.backbone_config.num_hidden_layers if mix == "last" else mix
            pooled = self._pooled(*next(state for index, state in enumerate(states) if index == last))
            return self._mixed(pooled[:, None])
        if self.config.pooling != "attentive_stats":
            return self._mixed(torch.stack([self._pooled(hidden, mask) for hidden, mask in states], dim=1))
        weights, total, mask = self.layer_weights.softmax(0), 0.0, None
        for weight, (hidden, mask) in zip(weights, states, strict=True):  # noqa: B007
            total = total + weight * hidden
        return self._mixed(self._pooled(total, mask)[:, None])

    def _head(self, embedding: torch.Tensor) -> torch.Tensor:
        embedding = self.dropout(embedding.to(self.classifier.weight.dtype))
        if self.config.head == "tanh":
            embedding = self.dropout(torch.tanh(self.projector(embedding)))
        return self.classifier(embedding)

    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Scores a batch of clips, waves or features, as the feature extractor returns them.

        No `**kwargs`: `Trainer` takes them for the promise to divide the loss by `num_items_in_batch`.

        Args:
            input_values: Waves `[B, T]`.
            attention_mask: `[B, T]`, 1 on samples or features of the clip, 0 on padding behind it; all 1 by default.
            labels: `[B]` class numbers, or `[B, C]` values where `problem_type` is `regression`.
            input_features: Instead of waves, Whisper's log-mel features `[B, M, T]` or w2v-BERT's `[B, T, 2 M]`.

        Returns:
            `logits` `[B, C]`, and with `labels` the mean cross-entropy or squared error; training has its own.
        """
        logits = self._head(self._embedding(self._states(input_values, attention_mask, input_features)))
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = nn.functional.mse_loss(logits.float(), labels.float())
        elif labels is not None:
            loss = nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


SILENCE = "silence"
# Pauses are looked for in steps of a tenth of a second. Fluent speech hardly holds one of half a second, 45 dB under
# its loudest tenth: one in the 535 clips of EMO-DB.
_LEVEL_SECONDS, _PAUSE_SECONDS = 0.1, 0.5
_SILENCE_DB, _SILENCE_DBFS = -45.0, -70.0


def open_audio(source: Any, sampling_rate_hz: int = SAMPLING_RATE_HZ) -> tuple[str, Iterator[np.ndarray]]:
    """Opens whatever a pipeline may be given.

    Args:
        source: A path, a URL, the bytes of a file; an array or tensor `(T,)`, `(channels, T)` or `(T, channels)` (the
            shorter axis is the channels) at `sampling_rate_hz`; a dict with `array` or `raw` and `sampling_rate`; a row
            of a `datasets.Audio` column (`bytes`, `path`, or a decoder), or a row with such a column named `audio`.

    Returns:
        What errors call the recording, and its blocks: `np.ndarray` of shape `(T,)`, float32, at `sampling_rate_hz`.
        Files come as `read_wave` reads them; arrays keep their scale, and integers are divided by their range.

    Raises:
        TypeError, ValueError: It is none of these. Errors of reading are raised with the blocks.
    """
    if hasattr(source, "get_all_samples"):  # a row that datasets decodes with torchcodec
        samples = source.get_all_samples()
        source = {"array": samples.data, "sampling_rate": samples.sample_rate}
    if isinstance(source, dict):
        return _open_dict(source, sampling_rate_hz)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return "array", iter([_mono(source, "array")])
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return source, _download_blocks(source, sampling_rate_hz)
    if isinstance(source, (str, bytes, PathLike)):
        return ("<bytes>" if isinstance(source, bytes) else fspath(source)), read_blocks(source, None, sampling_rate_hz)
    raise TypeError(
        f"A recording is a path, a URL, bytes, an array or a dict with array and sampling_rate; "
        f"got {type(source).__name__}."
    )


def _open_dict(row: dict, sampling_rate_hz: int) -> tuple[str, Iterator[np.ndarray]]:
    name = row.get("path") or "array"
    array = row["raw"] if row.get("raw") is not None else row.get("array")
    if array is not None and row.get("sampling_rate"):
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
    """One channel, float32 `(T,)`, of an array in any of the shapes of `open_audio`."""
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
    wave = array if array.ndim == 1 else array.mean(axis=int(np.argmin(array.shape)))
    wave = ((wave - middle) / scale).astype(np.float32)
    if not np.isfinite(wave).all():
        raise ValueError(f"{name}: holds NaN or infinite samples.")
    return wave


def _download_blocks(url: str, sampling_rate_hz: int) -> Iterator[np.ndarray]:
    import tempfile
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/audio"
        try:
            with urlopen(Request(url, headers={"User-Agent": "ser"}), timeout=30) as answer, open(path, "wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, HTTPException) as error:
            raise ValueError(f"{url}: cannot be downloaded ({error}).") from None
        yield from read_blocks(path, url, sampling_rate_hz)


def read_head(blocks: Iterator[np.ndarray], limit: int) -> tuple[np.ndarray, bool]:
    """Joins blocks until they exceed `limit` samples: the wave so far, and whether that is all of the recording."""
    head, length = [], 0
    for block in blocks:
        head.append(block)
        length += len(block)
        if length > limit:
            return np.concatenate(head), False
    return np.concatenate(head), True


def windows_of(blocks: Iterator[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Cuts a recording longer than `size` samples into windows `[size]`, `hop` samples from start to start.

    The last window ends where the recording ends, so that every window has the same length and nothing is unheard.

    Yields:
        The window's first sample, the window, and whether it is the last.
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
    """Passes blocks on, and appends to `levels` the variance of every `frame` samples, a level that no offset lifts."""
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
    """Which frames, of levels as [`metered`] gives them, are not in a pause: boolean, of the same shape.

    A frame is quiet 45 dB under the recording's loudest frame, or under -70 dBFS; a pause is a run of at least
    `frames_in_pause` quiet frames, or a recording with no other.
    """
    loudness = 10 * np.log10(levels + 1e-20)
    sound = loudness >= max(loudness.max() + _SILENCE_DB, _SILENCE_DBFS)
    for start, end in _edges(sound):
        if not sound[start] and end - start < min(frames_in_pause, len(sound)):
            sound[start:end] = True
    return sound


class Grid:
    """Lengths in samples: a window's `size`, the `hop` between two, and the `frame` a whole number of which is a hop.

    Raises:
        ValueError: The window is shorter than 0.1 s, the hop than 0.01 s, or the hop is longer than the window.
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


def blend_windows(scores: np.ndarray, starts: np.ndarray, grid: Grid, sound: np.ndarray, total: int) -> np.ndarray:
    """Scores over time from the scores of overlapping windows.

    A window of length W is the better a witness of time t, the more evenly it lies around t. Around a t that is d
    away from its middle lie W - 2 d of it evenly, and 2 d are from one side alone and pull its score there; so its
    weight is the even share, 1 - 2 d / W: a triangle. It ends at zero, so no window comes or goes with a step, and
    with hops that divide W / 2 the weights add up to the same everywhere. Since the score of a window comes from
    what sounds in it, the weight is multiplied by that share.

    Args:
        scores: `[W, C]`, one row a window.
        starts: `[W]`, first sample of each window.
        sound: Which frames are not in a pause.
        total: Length of the recording, samples.

    Returns:
        `[K, C]`, one row a hop.
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

    A run shorter than `shortest`, which is below what the windows can tell, joins the sounding run before or after it.

    Args:
        kinds: One number a frame, -1 in pauses.

    Yields:
        The run's first frame, the frame behind its last, and those of its frames that were of its kind from the
        start; None in a pause.
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
    """First and end of each run of equal values."""
    return list(pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]))


class SERPipeline(ChunkPipeline):
    """What `pipeline("audio-classification", model=..., trust_remote_code=True)` returns for a model of this file.

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
        """Classifies one recording, or each of a list, a generator or a column of a dataset.

        Args:
            inputs: What [`open_audio`] takes, or a list, tuple, generator, `datasets` column or dataset of such.
            top_k: How many labels to return; all by default.
            function_to_apply: `softmax`, `sigmoid` or `none`; by default what the model's `problem_type` asks for.
            calibrate_prior: Whether scores suppose the class frequencies of the corpus; as it was saved by default.
            timeline: Whether to return what is heard when, instead of one answer for the whole.
            window_seconds: Length of what is classified at a time; asks for a timeline. By default the median length
                of the clips that the model was trained on, or 4.
            hop_seconds: Time between two windows, a quarter of a window by default; asks for a timeline.
            max_seconds: A longer recording is classified in windows side by side, and the answer is their mean over
                all that sounds; 60 by default, or what the feature extractor can take.
            batch_size: How many recordings, or windows, go through the model at a time; it does not change scores.

        Returns:
            A list of `{"label": str, "score": float}`, best first; for `problem_type: regression` in the model's order.
            With `timeline`, a list of segments `{"start", "end", "label", "score", "scores"}`, in seconds, where
            `scores` is such a list, averaged over the segment. Pauses of half a second and more have the label
            `silence`, the score None and no scores. A recording of one window is one segment with the plain scores;
            a regression has a segment a hop, without label.

        Raises:
            FileNotFoundError, TypeError, ValueError: A recording cannot be read, is shorter than a frame or holds
                nothing but silence. The message names it.
        """
        single = isinstance(inputs, (str, bytes, dict, PathLike, np.ndarray, torch.Tensor))
        if kwargs.get("batch_size") is None and self._batch_size is None:
            many_windows = single or self._sanitize_parameters(**kwargs)[0].get("timeline")
            kwargs["batch_size"] = 16 if many_windows and self.device.type != "cpu" else 1
        if single or not isinstance(inputs, Iterable) or isinstance(inputs, (GeneratorType, torch.utils.data.Dataset)):
            return super().__call__(inputs, **kwargs)
        answers = super().__call__((item for item in inputs), **kwargs)
        return list(answers) if isinstance(inputs, Sized) else answers

    def _sanitize_parameters(self, top_k=None, function_to_apply=None, calibrate_prior=None, **kwargs):
        known = ("timeline", "window_seconds", "hop_seconds", "max_seconds")
        cutting = {name: kwargs.pop(name) for name in known if kwargs.get(name) is not None}
        kwargs = {name: value for name, value in kwargs.items() if name not in known}
        kwargs.pop("local_files_only", None)  # which `pipeline()` hands on when it is done with it
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
        ranking = {"top_k": top_k, "function_to_apply": function_to_apply, "calibrate_prior": calibrate_prior}
        return cutting, {}, {**cutting, **{name: value for name, value in ranking.items() if value is not None}}

    def preprocess(self, inputs, timeline=False, window_seconds=None, hop_seconds=None, max_seconds=None):
        """Yields a recording as the model's inputs: whole, or cut into windows while it is read."""
        grid = self._grid(timeline, window_seconds, hop_seconds)
        levels: list[float] = []
        name, blocks = open_audio(inputs, self.feature_extractor.sampling_rate)
        blocks = metered(blocks, grid.frame, levels)
        head, is_whole = read_head(blocks, grid.size if timeline else max(grid.size, self._max_samples(max_seconds)))
        if is_whole:
            self._check(head, name, silence_allowed=timeline)
            windows = [(0, head, True)]
        else:
            windows = windows_of(chain([head], blocks), grid.size, grid.hop)
        for start, window, is_last in windows:
            place = {"start": start}
            if is_last:
                place |= {"name": name, "total": start + len(window), "levels": np.asarray(levels)}
            yield {**self._features(window), "place": place, "is_last": is_last}

    def read_short(self, source: Any, max_seconds: float | None = None) -> np.ndarray | None:
        """The wave `(T,)` of a recording that is classified whole; None where it is longer than `max_seconds`.

        Raises:
            FileNotFoundError, TypeError, ValueError: As a call.
        """
        name, blocks = open_audio(source, self.feature_extractor.sampling_rate)
        wave, is_whole = read_head(blocks, self._max_samples(max_seconds))
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

    def _forward(self, model_inputs):
        place, is_last = model_inputs.pop("place"), model_inputs.pop("is_last")
        # As numbers: thousands of small tensors, kept to the end of a long recording, would lie between the large ones
        # that come and go, and the memory of these could not be used again.
        logits = self.model(**model_inputs).logits.float().tolist()
        return {"is_last": is_last, "place": place, "logits": logits}

    def postprocess(self, outputs, top_k=None, function_to_apply=None, calibrate_prior=None, timeline=False, **cutting):
        """Ranks the scores of one recording, or makes the timeline of its windows."""
        logits = torch.tensor([output["logits"] for output in outputs], dtype=torch.float64)
        scores = self._scores(logits.reshape(len(outputs), -1) + self._bias(calibrate_prior), function_to_apply)
        place = outputs[-1]["place"]
        if len(outputs) == 1 and not timeline:
            return self._ranked(scores[0], top_k)
        grid = self._grid(timeline, cutting.get("window_seconds"), cutting.get("hop_seconds"))
        sound = sounding(place["levels"], grid.frames_in_pause)
        if len(outputs) == 1:
            return [self._segment(0, place["total"], scores[0] if sound.any() else None, top_k)]
        starts = np.array([output["place"]["start"] for output in outputs])
        by_hop = blend_windows(scores, starts, grid, sound, place["total"])
        hop_of_frame = np.arange(len(sound)) // grid.frames_in_hop
        if timeline:
            is_regression = self.model.config.problem_type == "regression"
            kinds = (np.arange(len(by_hop)) if is_regression else by_hop.argmax(axis=1))[hop_of_frame]
            return [
                self._segment(
                    first * grid.frame,
                    min(end * grid.frame, place["total"]),
                    None if own is None else by_hop[hop_of_frame[own]].mean(axis=0),
                    top_k,
                )
                for first, end, own in runs_of(np.where(sound, kinds, -1), grid.frames_in_hop)
            ]
        if not sound.any():
            raise ValueError(f"{place['name']}: is silent throughout; record or export it again.")
        return self._ranked(by_hop[hop_of_frame[sound]].mean(axis=0), top_k)

    def _segment(self, start: int, end: int, scores: np.ndarray | None, top_k: int | None) -> dict[str, Any]:
        """A piece of a timeline from sample `start` to `end`; `scores` `[C]` are None in silence."""
        rate_hz = self.feature_extractor.sampling_rate
        segment = {"start": round(start / rate_hz, 3), "end": round(end / rate_hz, 3)}
        if scores is None:
            return {**segment, "label": SILENCE, "score": None, "scores": []}
        ranked = self._ranked(scores, top_k)
        is_regression = self.model.config.problem_type == "regression"
        return {**segment, **({"label": None, "score": None} if is_regression else ranked[0]), "scores": ranked}

    def _bias(self, calibrate_prior: bool | None) -> torch.Tensor:
        """What leads from the logits as they were saved to those that are asked for, `[C]` or 0."""
        config = self.model.config
        if calibrate_prior is None or calibrate_prior == config.calibrate_prior:
            return torch.zeros(())
        return torch.tensor(config.calibration_bias, dtype=torch.float64) * (1 if calibrate_prior else -1)

    def _scores(self, logits: torch.Tensor, function_to_apply: str | None) -> np.ndarray:
        by_type = {"regression": "none", "multi_label_classification": "sigmoid"}
        function = function_to_apply or by_type.get(self.model.config.problem_type, "softmax")
        return {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "none": logits}[function].numpy()

    def _ranked(self, scores: np.ndarray, top_k: int | None) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")
        if self.model.config.problem_type == "regression":
            order = np.arange(len(scores))
        id2label = self.model.config.id2label
        return [{"label": id2label[int(index)], "score": float(scores[index])} for index in order[:top_k]]

    def _grid(self, timeline: bool, window_seconds: float | None, hop_seconds: float | None) -> Grid:
        if window_seconds is None:
            window_seconds = min(getattr(self.model.config, "window_seconds", None) or 4.0, self._most_seconds())
        trained = getattr(self.model.config, "window_seconds", None)
        if trained and window_seconds > trained:
            logger.warning_once(
                f"window_seconds: {window_seconds:g}, but the model learned from clips of {trained:g} s in the median. "
                "A longer window averages over what changes in it."
            )
        if window_seconds > self._most_seconds():
            raise ValueError(f"window_seconds: {window_seconds}, but the model hears {self._most_seconds()} at most.")
        if hop_seconds is None or not timeline:
            hop_seconds = window_seconds / 4 if timeline else window_seconds
        return Grid(window_seconds, hop_seconds, self.feature_extractor.sampling_rate)

    def _most_seconds(self) -> float:
        """What the feature extractor can take: Whisper's cuts at 30 s."""
        return getattr(self.feature_extractor, "chunk_length", float("inf"))

    def _max_samples(self, max_seconds: float | None) -> int:
        if max_seconds is None:
            max_seconds = 60.0
        if not max_seconds > 0:
            raise ValueError(f"max_seconds: {max_seconds} is not above 0.")
        return int(min(max_seconds, self._most_seconds()) * self.feature_extractor.sampling_rate)


SERConfig.register_for_auto_class()
SERForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")

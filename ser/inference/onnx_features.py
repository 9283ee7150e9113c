"""Log-mel features of Whisper inside the graph of an ONNX file, so that the file takes waves."""

from typing import Any

import torch
from torch import nn

from ser_model import length_mask


class WhisperLogits(nn.Module):
    """A model on Whisper's encoder as a function of waves and their mask, `[B, T]`, that returns logits `[B, C]`.

    A clip gets the features of `WhisperFeatureExtractor`, which puts silence behind it up to the window of 30 s. With
    `whisper_full_window` the model takes all of them. Without it, they end two mel frames behind the last frame of the
    longest clip: the convolutions see one of these two. Frames behind them hold no sample of a clip, so none of them is
    the loudest of a clip, the one that its logarithms are clamped to.

    Args:
        model: `SERForAudioClassification` on Whisper's encoder.
        feature_extractor: The feature extractor of the model.

    Raises:
        ValueError: The feature extractor adds noise (`dither`), so its features differ from call to call.
    """

    def __init__(self, model: nn.Module, feature_extractor: Any):
        super().__init__()
        if feature_extractor.dither:
            raise ValueError(
                f"RUN: its feature extractor adds noise (dither {feature_extractor.dither:g}), so no two scores are "
                "equal; set dither to 0 in preprocessor_config.json."
            )
        self.model, self.full_window = model, model.config.whisper_full_window
        self.hop, self.size = feature_extractor.hop_length, feature_extractor.n_fft
        self.most_samples = feature_extractor.n_samples
        self.register_buffer("basis", fourier_basis(self.size))
        self.register_buffer("mel_filters", torch.from_numpy(feature_extractor.mel_filters.T).float()[..., None])

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        features = self.log_mel(self.padded(input_values.masked_fill(attention_mask == 0, 0.0)))
        frames = (attention_mask.sum(-1) + self.hop - 1) // self.hop
        mask = length_mask(frames, features.shape[-1]).long()
        return self.model(attention_mask=mask, input_features=features).logits

    def padded(self, waves: torch.Tensor) -> torch.Tensor:
        """Waves `[B, T]` with silence behind them, up to the window or as far as their features need it."""
        samples = self.most_samples
        if not self.full_window:
            step = 2 * self.hop  # samples of one frame of the encoder
            samples = torch.sym_min((waves.shape[1] + step - 1) // step * step + step, samples)
        silence = waves.new_zeros(waves.shape[0], self.most_samples if self.full_window else 2 * step)
        return torch.cat([waves, silence], dim=1)[:, :samples]

    def log_mel(self, waves: torch.Tensor) -> torch.Tensor:
        """Features `[B, M, F]` of waves `[B, T]`, as `WhisperFeatureExtractor._torch_extract_fbank_features`.

        In float32, with a product in place of the FFT: both round alike, and change features by 1e-6.
        """
        waves = nn.functional.pad(waves[:, None], (self.size // 2, self.size // 2), mode="reflect")
        # The extractor leaves out the last frame, which is centred behind the wave.
        spectrum = nn.functional.conv1d(waves[..., : -self.hop], self.basis, stride=self.hop)  # [B, 2 K, F]
        real, imaginary = spectrum.chunk(2, dim=1)
        energy = nn.functional.conv1d(real.square() + imaginary.square(), self.mel_filters)  # [B, M, F]
        levels = energy.clamp(min=1e-10).log10()
        return (torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def fourier_basis(size: int) -> torch.Tensor:
    """Kernels `[2 K, 1, size]` of a convolution that computes the K = size / 2 + 1 complex values of a DFT.

    The real parts come first, then the imaginary parts. The kernels contain the periodic Hann window of `torch.stft`.
    """
    turns = torch.outer(torch.arange(size // 2 + 1), torch.arange(size)) % size
    angles = turns.double() * (2 * torch.pi / size)
    window = torch.hann_window(size, dtype=torch.float64)
    return (torch.cat([angles.cos(), -angles.sin()]) * window).float()[:, None]

"""Models of random weights, small enough to build in a test, saved as training saves them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import HubertConfig, Wav2Vec2FeatureExtractor

from ser_model import SERConfig, SERForAudioClassification

# What is this small gains nothing from two threads, and loses much where other processes want the cores.
torch.set_num_threads(1)

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
# HuBERT-base in shape (seven convolutions, group norm), not in size.
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
}
# One convolution that is a filterbank, two that thin it out: this learns from scratch within a minute.
FILTERBANK = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "conv_dim": (128, 128, 128),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 2, 1),
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
}


def names(labels: tuple[str, ...] = LABELS) -> dict[str, Any]:
    """The arguments of a configuration that name its classes."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def feature_extractor() -> Wav2Vec2FeatureExtractor:
    return Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)


def tiny_model(path: Path, backbone: dict[str, Any] | None = None, seed: int = 0, **config: Any) -> Path:
    """Saves a model of random weights and its feature extractor in a folder.

    Args:
        backbone: What `HubertConfig` takes; `SMALL` by default.
        config: What `SERConfig` takes; five classes by default.

    Returns:
        `path`.
    """
    torch.manual_seed(seed)
    config = {**names(), **config}
    model = SERForAudioClassification(SERConfig(backbone_config=HubertConfig(**(backbone or SMALL)), **config))
    spread(model.classifier)
    model.eval().save_pretrained(path)
    feature_extractor().save_pretrained(path)
    return path


def tiny_stock_model(path: Path, seed: int = 0) -> Path:
    """Saves transformers' own `HubertForSequenceClassification` of random weights likewise."""
    from transformers import HubertForSequenceClassification

    torch.manual_seed(seed)
    model = HubertForSequenceClassification(HubertConfig(**SMALL, **names()))
    spread(model.classifier)
    model.eval().save_pretrained(path)
    feature_extractor().save_pretrained(path)
    return path


@torch.no_grad()
def spread(classifier: torch.nn.Linear) -> None:
    """Makes random scores differ from clip to clip, so that a test can tell a wrong one from a right one."""
    classifier.weight.mul_(20.0)


def noise(seconds: float, seed: int = 0, rate_hz: int = 16_000, level: float = 0.1) -> np.ndarray:
    """Noise below 4 kHz that swells four times a second, like syllables; the same sound at any rate."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = zip(generator.uniform(100, 4000, 40), generator.uniform(0, 6.28, 40), strict=True)
    wave = sum(np.sin(2 * np.pi * hertz * time + phase) for hertz, phase in tones)
    return (level / 5 * wave * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)

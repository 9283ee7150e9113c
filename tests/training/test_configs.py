"""Every configuration is read, and its model built in its real shape, without weights and without a download."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import (
    HubertConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from ser.data.augment import build_augmentation
from ser.training import models
from ser.training.arguments import parse_arguments
from ser.training.freezing import freeze
from ser.training.jobs import Job
from ser.training.models import new_model
from ser_model import SERConfig, SERForAudioClassification

ROOT = Path(__file__).parents[2]
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# The shapes of the checkpoints that the configurations name.
SHAPES = {
    "facebook/hubert-base-ls960": HubertConfig(),
    "microsoft/wavlm-base-plus": WavLMConfig(),
    "microsoft/wavlm-large": WavLMConfig(**LARGE, **{**LAYER_NORM, "conv_bias": False}),
    "facebook/wav2vec2-xls-r-300m": Wav2Vec2Config(**LARGE, **LAYER_NORM),
    "openai/whisper-base": WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, decoder_layers=1
    ),
    "openai/whisper-large-v3": WhisperConfig(
        d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120, num_mel_bins=128,
        decoder_layers=1, decoder_attention_heads=20, decoder_ffn_dim=5120,
    ),
}  # fmt: skip
EXTRACTORS = {"whisper": WhisperFeatureExtractor, "wav2vec2-bert": SeamlessM4TFeatureExtractor}
LABELS = ["anger", "fear", "happiness", "neutral", "sadness", "surprise"]


def made(name, attn_implementation=None, backbone_config=None, **config):
    """What `SERForAudioClassification.from_backbone` returns, with the checkpoint's shape and no weights."""
    shape = copy.deepcopy(SHAPES[name])
    for key, value in (backbone_config or {}).items():
        setattr(shape, key, value)
    return SERForAudioClassification(SERConfig(backbone_config=shape, **config))


BASE = ROOT / "configs" / "shemo_hubert_base.yaml"
STACKS = [
    *([path] for path in sorted((ROOT / "configs").glob("*.yaml"))),
    *([BASE, path] for path in sorted((ROOT / "configs" / "recipes").glob("*.yaml"))),
    [BASE, ROOT / "configs" / "recipes" / "probe.yaml", ROOT / "configs" / "recipes" / "whisper_large_v3.yaml"],
]


@pytest.mark.parametrize("paths", STACKS, ids=lambda paths: "+".join(path.stem for path in paths))
def test_a_configuration_is_parsed_and_its_model_built(paths, monkeypatch, tmp_path):
    monkeypatch.setattr(SERForAudioClassification, "from_backbone", made)
    monkeypatch.setattr(models, "is_ours", lambda name: False)
    monkeypatch.setattr(
        models.AutoFeatureExtractor,
        "from_pretrained",
        lambda name, **options: EXTRACTORS.get(SHAPES[name].model_type, Wav2Vec2FeatureExtractor)(),
    )
    model_args, data_args, training_args = parse_arguments([*map(str, paths), "--output_dir", str(tmp_path)])
    assert training_args.num_train_epochs > 0
    build_augmentation(data_args.augmentations)
    job = Job(model_args, data_args, training_args, tmp_path, training_args.seed, 0)
    with torch.device("meta"):
        model, extractor = new_model(job, data_args.parsed_target_columns() or LABELS)
        trainable = freeze(model, model_args)
    assert extractor.return_attention_mask
    assert 0 < trainable <= sum(parameter.numel() for parameter in model.parameters())
    assert model.classifier.out_features == len(data_args.parsed_target_columns() or LABELS)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "protocols").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_protocol_is_a_configuration_on_top_of_another(path):
    base = str(ROOT / "configs" / "shemo_hubert_base.yaml")
    _, plain, _ = parse_arguments([base])
    _, changed, _ = parse_arguments([base, str(path)])
    assert changed.corpus == plain.corpus

"""Backbones that take log-mel features: from waves to scores the same in any batch, and the stock encoder's states."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.backbones import build, clips
from fakes.one_step import corpus
from fakes.tiny import names
from transformers import (
    AutoModel,
    Wav2Vec2BertConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    pipeline,
)

from ser.data.batching import Clips, Collator
from ser.training.arguments import ModelArguments, SERTrainingArguments, parse_arguments
from ser.training.learning_rates import learning_rate_of
from ser.training.trainer import SERTrainer
from ser_model import SERConfig, SERForAudioClassification, min_samples, new_feature_extractor

WHISPER = {
    "d_model": 48,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "vocab_size": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
BERT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_depthwise_kernel_size": 7,
}
# A window of 14 s, not 30, where nothing depends on it: the tests are then twice as fast.
SHORT = {**WHISPER, "max_source_positions": 700}
FAMILIES = {
    "whisper, full window": (WhisperConfig(**SHORT), {}),
    "whisper, cut": (WhisperConfig(**SHORT), {"whisper_full_window": False}),
    "w2v-bert": (Wav2Vec2BertConfig(**BERT), {}),
    "w2v-bert, rotary": (Wav2Vec2BertConfig(**BERT, position_embeddings_type="rotary"), {}),
    "w2v-bert, relative": (Wav2Vec2BertConfig(**BERT, position_embeddings_type="relative"), {}),
}


def make(family: str, **config) -> tuple[SERForAudioClassification, Collator]:
    backbone, options = FAMILIES[family]
    return build(backbone, **options, **config), Collator(new_feature_extractor(backbone))


def batch_of(collator: Collator, waves: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    batch = collator([{"wave": wave.numpy(), "label": 0} for wave in waves])
    del batch["labels"]
    return dict(batch)


@torch.no_grad()
def assert_same_in_any_batch(model, collator, waves) -> None:
    order = np.random.default_rng(1).permutation(len(waves))
    alone = torch.cat([model(**batch_of(collator, [wave])).logits for wave in waves])
    together = model(**batch_of(collator, waves)).logits
    shuffled = torch.empty_like(together)
    shuffled[order] = model(**batch_of(collator, [waves[i] for i in order])).logits
    assert alone.std(0).min() > 1e-4  # the clips do differ
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(shuffled, alone, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_from_its_wave_on_a_clip_scores_the_same_in_any_batch(family):
    assert_same_in_any_batch(*make(family), clips())


@pytest.mark.parametrize("layer_mix", ["last", "weighted", 1])
@pytest.mark.parametrize("family", ["whisper, cut", "w2v-bert"])
def test_every_mix_and_pooling_scores_the_same_in_any_batch(family, layer_mix):
    for pooling in ("mean_std", "attentive_stats"):
        assert_same_in_any_batch(*make(family, pooling=pooling, layer_mix=layer_mix), clips(4, 0.1, 4))


@pytest.mark.parametrize("family", ["whisper, full window", "w2v-bert", "w2v-bert, rotary", "w2v-bert, relative"])
def test_alone_every_layer_is_the_stock_encoders(family):
    model, collator = make(family)
    for wave in clips(3, 0.1, 3):
        batch = batch_of(collator, [wave])
        with torch.no_grad():
            stock = model.backbone(**batch, output_hidden_states=True)
            ours = list(model._states(None, **batch))
        for (hidden, mask), theirs in zip(ours[:-1], stock.hidden_states, strict=False):
            torch.testing.assert_close(hidden[mask], theirs[mask], atol=1e-6, rtol=0)
        hidden, mask = ours[-1]
        torch.testing.assert_close(hidden[mask], stock.last_hidden_state[mask], atol=1e-6, rtol=0)


def test_cut_to_the_clip_the_same_enters_the_first_layer_and_a_clip_that_fills_the_window_loses_nothing():
    (cut, collator), (full, _) = make("whisper, cut"), make("whisper, full window")
    with torch.no_grad():
        for seconds in (0.1, 1.35, 14.0):
            batch = batch_of(collator, clips(1, seconds))
            short, whole = list(cut._states(None, **batch)), list(full._states(None, **batch))
            frames = short[0][0].shape[1]
            assert frames == -(-seconds * 50 // 1)
            torch.testing.assert_close(short[0][0], whole[0][0][:, :frames], atol=1e-6, rtol=0)
        torch.testing.assert_close(short[-1][0], whole[-1][0], atol=1e-6, rtol=0)


def test_what_lies_behind_a_clip_does_not_matter_to_w2v_bert():
    model, collator = make("w2v-bert")
    batch = batch_of(collator, clips(3, 0.2, 2))
    features, mask = batch["input_features"], batch["attention_mask"]
    features = torch.nn.functional.pad(features.masked_fill(mask[..., None] == 0, 3.0), (0, 0, 0, 500), value=-7.0)
    with torch.no_grad():
        far = model(None, torch.nn.functional.pad(mask, (0, 500)), input_features=features).logits
        torch.testing.assert_close(far, model(**batch).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["whisper", "w2v-bert"])
def test_frames_are_counted_from_samples(family):
    config = WhisperConfig(**WHISPER, max_source_positions=50) if family == "whisper" else Wav2Vec2BertConfig(**BERT)
    collator, lengths = Collator(new_feature_extractor(config)), [*range(min_samples(config), 2001, 79), 719, 720, 800]
    waves = [torch.randn(length) for length in lengths]
    counted = batch_of(collator, waves)["attention_mask"].sum(1).tolist()
    if family == "whisper":  # mel frames, two of which make a frame
        assert counted == [-(-length // 160) for length in lengths]
    else:
        assert counted == [(1 + (length - 400) // 160) // 2 for length in lengths]


@pytest.mark.parametrize("family", ["whisper, cut", "w2v-bert"])
def test_training_reaches_every_parameter_with_and_without_gradient_checkpointing(family):
    model, collator = make(family, pooling="mean_std", layer_mix="weighted", final_dropout=0.0)
    for name in ("mask_time_prob", "conformer_conv_dropout"):
        setattr(model.backbone.config, name, 0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch, gradients = batch_of(collator, clips(3, 0.5, 2)), []
    model.train()
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        missed = {name for name, p in model.named_parameters() if p.grad is None and p.requires_grad}
        assert missed <= {"backbone.masked_spec_embed"}
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-4)


def test_whispers_positions_are_never_trained_as_in_the_stock_encoder():
    model, _ = make("whisper, full window")
    model.freeze_layers(1)
    trained = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert trained == {
        name for name, _ in model.backbone.named_parameters() if name.startswith(("layers.1", "layer_n"))
    }
    model, _ = make("whisper, full window", layer_mix=1)
    model.freeze_feature_encoder()
    frozen = {name.split(".")[0] for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "conv2", "embed_positions", "layers", "layer_norm"}
    assert all(p.requires_grad for p in model.backbone.layers[0].parameters())


def test_spec_augment_masks_the_clip_alone_where_the_configuration_asks_for_it():
    backbone = WhisperConfig(**SHORT, apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=4)
    model, seen = build(backbone).train(), []
    model.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(input_features=torch.ones(2, 80, 1400), attention_mask=(torch.arange(1400)[None] < 200).long().expand(2, -1))
    masked = (seen[0] == 0).all(1)
    assert 20 < masked[:, :200].sum() < 300
    assert not masked[:, 200:].any()


@pytest.fixture(scope="module")
def whisper_dir(tmp_path_factory) -> Path:
    """A checkpoint as Whisper's are: encoder, decoder, half precision, a preprocessor's configuration."""
    torch.manual_seed(1)
    path, config = tmp_path_factory.mktemp("whisper"), WhisperConfig(**SHORT)
    WhisperForConditionalGeneration(config).half().save_pretrained(path)
    new_feature_extractor(config).save_pretrained(path)
    return path


def test_of_a_whisper_checkpoint_the_encoder_is_loaded_whole_and_in_float32(whisper_dir):
    stock = AutoModel.from_pretrained(whisper_dir, dtype=torch.float32).encoder
    model = SERForAudioClassification.from_backbone(str(whisper_dir), num_labels=6)
    weights = {name: weight for name, weight in model.state_dict().items() if name.startswith("backbone.")}
    assert weights.keys() == {f"backbone.{name}" for name in stock.state_dict()}
    for name, weight in stock.state_dict().items():
        assert weights[f"backbone.{name}"].dtype == torch.float32
        torch.testing.assert_close(weights[f"backbone.{name}"], weight, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("model.encoder.layers.1.fc1.weight"), r"1 weights missing \['layers.1.fc1.weight"),
        (
            lambda weights: weights.update({"model.encoder.layers.2.fc1.weight": torch.zeros(64, 48)}),
            r"1 left over \['layers.2.fc1.weight",
        ),
    ],
)
def test_a_whisper_checkpoint_that_lacks_or_has_too_much_of_an_encoder_is_refused(
    whisper_dir, tmp_path, change, message
):
    from safetensors.torch import load_file, save_file

    weights = load_file(whisper_dir / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((whisper_dir / "config.json").read_text())
    with pytest.raises(ValueError, match=message):
        SERForAudioClassification.from_backbone(str(tmp_path), num_labels=6)


@pytest.mark.parametrize("family", ["whisper, full window", "whisper, cut", "w2v-bert"])
def test_pipeline_scores_a_clip_as_training_does(family, tmp_path):
    model, collator = make(family)
    model.classifier.weight.data *= 20
    model.save_pretrained(tmp_path)
    collator.feature_extractor.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", model=str(tmp_path), trust_remote_code=True)
    assert classify.model.main_input_name == "input_features"
    waves = [wave / 8 for wave in clips(4, 0.2, 3)]  # in [-1, 1], as audio is
    with torch.no_grad():
        expected = model(**batch_of(collator, waves)).logits.softmax(-1)
    for size in (1, 4):
        for scores, row in zip(classify([w.numpy() for w in waves], batch_size=size), expected, strict=True):
            found = {score["label"]: score["score"] for score in scores}
            np.testing.assert_allclose([found[f"LABEL_{i}"] for i in range(6)], row, atol=1e-5)
    with pytest.raises(ValueError, match="is too short"):
        classify(waves[0].numpy()[:399])


def test_pipeline_hears_a_recording_longer_than_whispers_window_in_pieces(tmp_path):
    model, collator = make("whisper, cut")
    model.save_pretrained(tmp_path)
    collator.feature_extractor.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", model=str(tmp_path), trust_remote_code=True)
    heard = []
    classify.model.backbone.conv1.register_forward_hook(lambda *_: heard.append(1))
    wave = clips(1, 15.0)[0].numpy()
    assert len(classify(wave, max_seconds=60)) == 6
    assert len(heard) > 1
    with pytest.raises(ValueError, match="window_seconds: 15, but the model hears 14 at most"):
        classify(wave, window_seconds=15)


@pytest.mark.parametrize("family", ["whisper, full window", "w2v-bert"])
def test_the_trainer_trains_them(family, tmp_path):
    backbone, _ = FAMILIES[family]
    torch.manual_seed(0)
    config = SERConfig(backbone_config=copy.deepcopy(backbone), final_dropout=0.0, **names(("a", "b", "c")))
    model, collator = SERForAudioClassification(config), Collator(new_feature_extractor(backbone))
    rows = Clips(corpus([0.3, 0.5, 0.4, 0.6], [0, 1, 2, 1]), [0, 1, 2, 1])
    args = SERTrainingArguments(
        output_dir=str(tmp_path), max_steps=6, learning_rate=3e-3, per_device_train_batch_size=4, warmup_steps=0,
        eval_strategy="no", save_strategy="no", logging_strategy="steps", logging_steps=1, disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip
    trainer = SERTrainer(model, args, ModelArguments(), ["a", "b", "c"], collator, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="--mixup_alpha: mixes waves, but this backbone takes spectral features"):
        SERTrainer(model, args, ModelArguments(mixup_alpha=0.4), ["a", "b", "c"], collator, train_dataset=rows)


def test_layers_of_whisper_learn_at_their_own_rates():
    model, _ = make("whisper, full window")
    parts = ("layers.1.fc1", "layers.0.fc1", "conv1")
    arguments = ModelArguments(layer_lr_decay=0.5)
    rates = [learning_rate_of(f"backbone.{part}.weight", model, arguments, 1.0) for part in parts]
    assert rates == [1.0, 0.5, 0.25]


def test_what_does_not_fit_is_refused():
    whisper, _ = make("whisper, full window")
    with pytest.raises(ValueError, match="100 mel frames; this encoder takes exactly 1400"):
        whisper(input_features=torch.zeros(1, 80, 100))
    with pytest.raises(ValueError, match="1402 mel frames; this encoder takes at most 1400"):
        make("whisper, cut")[0](input_features=torch.zeros(1, 80, 1402))
    with pytest.raises(ValueError, match="input_features is not given; whisper takes nothing else"):
        whisper(torch.zeros(1, 16000))
    bert, _ = make("w2v-bert")
    with pytest.raises(ValueError, match="a clip makes no frame; expected 560 samples or more"):
        bert(input_features=torch.zeros(2, 5, 160), attention_mask=torch.tensor([[1] * 5, [0] * 5]))
    with pytest.raises(ValueError, match="add_adapter"):
        SERConfig(backbone_config=Wav2Vec2BertConfig(**BERT, add_adapter=True))
    with pytest.raises(ValueError, match="input_values is not given; hubert takes nothing else"):
        SERForAudioClassification(SERConfig(backbone_config={"model_type": "hubert", "num_hidden_layers": 1}))(None)


def test_the_recipe_for_whisper_large_is_parsed_and_built():
    configs = Path(__file__).parents[2] / "configs"
    names = ("shemo_hubert_base", "recipes/probe", "recipes/whisper_large_v3")
    arguments, data, _ = parse_arguments([str(configs / f"{name}.yaml") for name in names])
    assert (arguments.model_name_or_path, arguments.train_mode, data.corpus) == (
        "openai/whisper-large-v3",
        "probe",
        "shemo",
    )
    shape = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
    with torch.device("meta"):
        backbone = WhisperConfig(**shape, num_mel_bins=128)
        config = SERConfig(
            backbone_config=backbone,
            **{name: getattr(arguments, name) for name in ("pooling", "whisper_full_window")},
        )
        model = SERForAudioClassification(config)
    assert sum(p.numel() for p in model.backbone.parameters()) == 636_968_960  # as published for the encoder

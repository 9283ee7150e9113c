"""What transformers, accelerate and torch do with any model, done with every family of backbones."""

import copy
import json

import numpy as np
import pytest
import torch
from fakes.backbones import build
from fakes.tiny import noise, tiny_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    Data2VecAudioConfig,
    HubertConfig,
    UniSpeechConfig,
    UniSpeechSatConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    WavLMConfig,
    WhisperConfig,
    pipeline,
)

from ser_model import SERConfig, SERForAudioClassification

WAVE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (24, 24, 24),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
QUIET = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)
QUIET |= {"layerdrop": 0.0, "mask_time_prob": 0.0}
ENCODER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
WHISPER = WhisperConfig(**ENCODER, max_source_positions=100, dropout=0.0, pad_token_id=0, vocab_size=9)
FAMILIES = {
    "hubert": (HubertConfig(**WAVE, **QUIET), {}),
    "mhubert": (HubertConfig(**WAVE, **QUIET, conv_pos_batch_norm=True), {}),
    "wav2vec2": (Wav2Vec2Config(**WAVE, **QUIET), {"pooling": "attentive_stats", "layer_mix": "weighted"}),
    "xls-r": (Wav2Vec2Config(**WAVE, **QUIET, **LAYER), {"pooling": "mean_std"}),
    "wavlm": (WavLMConfig(**WAVE, **QUIET), {"layer_mix": "weighted"}),
    "wavlm-large": (WavLMConfig(**WAVE, **QUIET, **LAYER), {"head": "linear"}),
    "data2vec": (Data2VecAudioConfig(**{**WAVE, "num_conv_pos_embeddings": 2}, conv_pos_kernel_size=9, **QUIET), {}),
    "unispeech": (UniSpeechConfig(**WAVE, **QUIET), {"layer_mix": "all"}),
    "unispeech-sat": (UniSpeechSatConfig(**WAVE, **QUIET), {"layer_mix": 1}),
    "whisper": (WHISPER, {"pooling": "mean_std"}),
    "whisper, cut": (WHISPER, {"whisper_full_window": False, "layer_mix": "weighted"}),
    "w2v-bert": (
        Wav2Vec2BertConfig(
            **{name: value for name, value in WAVE.items() if not name.startswith(("conv_", "num_conv"))},
            **{**QUIET, "conformer_conv_dropout": 0.0},
            conv_depthwise_kernel_size=7,
        ),
        {},
    ),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def make(family: str, **config) -> SERForAudioClassification:
    backbone, options = FAMILIES[family]
    return build(backbone, final_dropout=0.0, **{**options, **config})


def batch_of(family: str) -> dict[str, torch.Tensor]:
    """Two clips, the second half as long as the first."""
    generator = torch.Generator().manual_seed(0)
    if family.startswith("whisper"):
        values, mask = torch.randn(2, 80, 200, generator=generator), torch.zeros(2, 200, dtype=torch.long)
        mask[0, :120], mask[1, :60] = 1, 1
    elif family == "w2v-bert":
        values, mask = torch.randn(2, 40, 160, generator=generator), torch.ones(2, 40, dtype=torch.long)
        mask[1, 20:] = 0
    else:
        values, mask = torch.randn(2, 8000, generator=generator), torch.ones(2, 8000, dtype=torch.long)
        mask[1, 4000:] = 0
    return {"input_values" if values.dim() == 2 else "input_features": values, "attention_mask": mask}


@torch.no_grad()
def logits_of(model, family: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    batch = batch_of(family)
    return model(**{name: v.to(dtype) if v.is_floating_point() else v for name, v in batch.items()}).logits


@every_family
def test_saved_in_any_dtype_and_loaded_it_answers_as_before(family, tmp_path):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = make(family).to(dtype)
        model.save_pretrained(tmp_path)
        loaded = SERForAudioClassification.from_pretrained(tmp_path, dtype="auto").eval()
        assert {p.dtype for p in loaded.backbone.parameters()} == {dtype}
        torch.testing.assert_close(logits_of(loaded, family, dtype), logits_of(model, family, dtype), atol=0, rtol=0)


@every_family
def test_with_other_classes_only_the_last_layer_is_new(family, tmp_path):
    model = make(family)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        SERForAudioClassification.from_pretrained(tmp_path, num_labels=3)
    loaded = SERForAudioClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True).eval()
    assert logits_of(loaded, family).shape == (2, 3)
    assert loaded.classifier.weight.std() > 0
    before, after = model.state_dict(), loaded.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@every_family
def test_one_value_of_the_backbones_configuration_is_overridden_alone(family, tmp_path):
    make(family).save_pretrained(tmp_path)
    plain = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True).backbone_config.to_dict()
    model = AutoModelForAudioClassification.from_pretrained(
        tmp_path, trust_remote_code=True, backbone_config={"mask_time_prob": 0.25}
    )
    assert model.backbone.config.mask_time_prob == 0.25
    found = model.config.backbone_config.to_dict()
    same = [name for name in plain if name not in ("mask_time_prob", "dtype", "torch_dtype", "_name_or_path")]
    assert {name: found[name] for name in same} == {name: plain[name] for name in same}


@every_family
def test_hidden_states_are_those_that_are_pooled(family):
    model, batch = make(family), batch_of(family)
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
        states = list(model._states(**{"input_values": None, **batch}))
        plain = model(**batch)
        model.config.output_hidden_states, model.config.return_dict = True, False
        values = model(**batch)
    assert plain.hidden_states is None
    assert len(output.hidden_states) == len(values[1]) == model.config.backbone_config.num_hidden_layers + 1
    for found, (expected, _) in zip(output.hidden_states, states, strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)
    torch.testing.assert_close(output.logits, plain.logits, atol=0, rtol=0)
    torch.testing.assert_close(values[0], plain.logits, atol=0, rtol=0)


def test_attentions_are_refused_as_an_argument_and_in_the_configuration():
    model, batch = make("hubert"), batch_of("hubert")
    with pytest.raises(ValueError, match="output_attentions: this model does not return attention weights"):
        model(**batch, output_attentions=True)
    model.config._output_attentions = True
    with pytest.raises(ValueError, match="output_attentions"):
        model(**batch)


def gradients_of(model, family: str) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch_of(family), labels=torch.tensor([0, 1])).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_family
@pytest.mark.parametrize("frozen", ["nothing", "the first layers"])
def test_gradient_checkpointing_changes_no_gradient(family, frozen):
    model = make(family).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if frozen == "the first layers":
        model.freeze_layers(1)
    expected = gradients_of(model, family)
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        found = gradients_of(model, family)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(
                found[name], gradient, atol=1e-6, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "unispeech-sat"])
def test_the_first_convolution_with_group_norm_is_checkpointed_too(family):
    model, calls = make(family).train(), []
    model.backbone.feature_extractor.conv_layers[0].conv.register_forward_hook(lambda *_: calls.append(1))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    gradients_of(model, family)
    assert len(calls) == 2


@every_family
def test_offloaded_to_memory_or_disk_it_answers_as_before(family, tmp_path):
    from accelerate import cpu_offload, disk_offload

    expected = logits_of(make(family), family)
    for offloaded in (cpu_offload(make(family), "cpu"), disk_offload(make(family), str(tmp_path), "cpu")):
        assert next(offloaded.backbone.parameters()).is_meta
        torch.testing.assert_close(logits_of(offloaded, family), expected, atol=0, rtol=0)


@every_family
def test_with_linear_layers_in_int8_it_answers_nearly_as_before(family):
    model = make(family)
    expected = logits_of(model, family)
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    difference = (logits_of(quantized, family) - expected).abs().max()
    assert 0 < difference < 0.2 * expected.std()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["hubert", "xls-r", "w2v-bert"])
def test_torch_export_gives_a_program_for_any_batch_and_length(family):
    model, batch = make(family).requires_grad_(False), batch_of(family)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(model, (), batch, dynamic_shapes=dict.fromkeys(batch, free)).module()
    size = 3 * batch["attention_mask"].shape[1] // 4
    other = {name: torch.cat([values, values])[:3, :size] for name, values in batch.items()}
    with torch.no_grad():
        torch.testing.assert_close(program(**other).logits, model(**other).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "weight"),
    [
        ("whisper", "embed_positions.weight"),
        ("wav2vec2", "feature_projection.projection.weight"),
        ("hubert", "masked_spec_embed"),
    ],
)
def test_a_missing_weight_of_the_backbone_is_drawn_by_the_backbones_own_rule(family, weight, tmp_path):
    backbone = copy.deepcopy(FAMILIES[family][0])
    backbone.mask_time_prob = 0.05  # with 0, HuBERT has no masked_spec_embed
    build(backbone).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[f"backbone.{weight}"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (SERForAudioClassification, AutoModelForAudioClassification):
        options = {"trust_remote_code": True} if load is AutoModelForAudioClassification else {}
        drawn = load.from_pretrained(tmp_path, **options).state_dict()[f"backbone.{weight}"]
        if family == "whisper":
            from transformers.models.whisper.modeling_whisper import sinusoids

            torch.testing.assert_close(drawn, sinusoids(*drawn.shape))
        elif family == "wav2vec2":
            bound = drawn.shape[1] ** -0.5  # uniform, not normal
            assert 0.9 * bound < drawn.abs().max() <= bound
        else:
            assert 0 <= drawn.min() < drawn.max() <= 1


def test_multi_label_classification_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(ValueError, match="problem_type: multi_label_classification is not supported"):
        SERConfig(backbone_config=HubertConfig(**WAVE), problem_type="multi_label_classification")
    make("hubert").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    with pytest.raises(ValueError, match="multi_label_classification is not supported"):
        SERForAudioClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize("options", [{}, {"layer_mix": 1}, {"pooling": "mean_std"}, {"layer_mix": "weighted"}])
def test_an_embedding_is_the_pooled_vector_of_the_chosen_layer_in_any_batch(options, tmp_path):
    classify = pipeline("audio-classification", model=str(tiny_model(tmp_path, **options)), trust_remote_code=True)
    model, clips = classify.model, [noise(seconds, seed) for seed, seconds in enumerate((0.5, 1.7, 0.9))]
    model.standardize.mean += 1.0  # belongs to the head
    alone = [classify(clip, return_embedding=True) for clip in clips]
    for batch_size in (2, 3):
        together = classify(clips, return_embedding=True, batch_size=batch_size)
        np.testing.assert_allclose(together, alone, atol=1e-5)
    inputs = classify.feature_extractor(clips[0], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    size = 96 if options.get("pooling") == "mean_std" else 48
    assert alone[0].shape == (size,)
    assert alone[0].dtype == np.float32
    layer = (
        states[options.get("layer_mix", -1)] if options.get("layer_mix") != "weighted" else torch.stack(states).mean(0)
    )
    np.testing.assert_allclose(alone[0][:48], layer[0].mean(0), atol=1e-5)
    assert classify(clips[1], return_embedding=True, max_seconds=0.5).shape == (size,)
    with pytest.raises(ValueError, match="return_embedding"):
        classify(clips[0], return_embedding=True, timeline=True)


def test_a_copy_of_a_model_is_a_model_of_its_own():
    model = make("hubert")
    other = copy.deepcopy(model)
    before = logits_of(model, "hubert")
    torch.testing.assert_close(logits_of(other, "hubert"), before, atol=0, rtol=0)
    norm = other.backbone.feature_extractor.conv_layers[0].layer_norm
    norm.weight.data.mul_(-1)
    torch.testing.assert_close(logits_of(model, "hubert"), before, atol=0, rtol=0)
    assert (logits_of(other, "hubert") - before).abs().max() > 1e-3


def test_a_folder_of_pickled_weights_is_refused_with_the_way_to_convert_it(tmp_path):
    HubertConfig(**WAVE).save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"only as a pickled file, pytorch_model\.bin, .*save_pretrained"):
        SERForAudioClassification.from_backbone(str(tmp_path), num_labels=2)


@pytest.mark.heavy
@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive_stats"])
def test_compiled_it_trains_on_batches_of_changing_length(pooling):
    torch.compiler.reset()
    backbone = copy.deepcopy(FAMILIES["hubert"][0])
    backbone.num_hidden_layers, backbone.mask_time_prob, backbone.mask_feature_prob = 1, 0.3, 0.1
    model = build(backbone, pooling=pooling, final_dropout=0.0).train()
    compiled = torch.compile(model)
    for size in (8000, 6400, 9600):
        mask = (torch.arange(size)[None] < torch.tensor([[size], [size // 2], [size]])).long()
        compiled(torch.randn(3, size), mask, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.classifier.parameters())

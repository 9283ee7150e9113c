"""The model: the same answer in any batch, the stock backbone where there is no padding, and what is saved."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from fakes import tiny
from fakes.backbones import build, clips
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    Data2VecAudioConfig,
    HubertConfig,
    HubertModel,
    UniSpeechSatConfig,
    Wav2Vec2Config,
    WavLMConfig,
)

from ser_model import (
    SERConfig,
    SERForAudioClassification,
    masked_group_norm,
    masked_mean_std,
    min_samples,
    num_frames,
    span_mask,
)

SMALL = {**tiny.SMALL, "num_hidden_layers": 3}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
D2V = {**SMALL, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
FAMILIES = {
    "hubert": HubertConfig(**SMALL),
    "hubert-large": HubertConfig(**SMALL, **LAYER),
    "mhubert": HubertConfig(**SMALL, conv_pos_batch_norm=True),
    "distilhubert": HubertConfig(**{**SMALL, "num_hidden_layers": 2}, feat_proj_layer_norm=False),
    "wav2vec2": Wav2Vec2Config(**SMALL),
    "xls-r": Wav2Vec2Config(**SMALL, **LAYER),
    "wavlm": WavLMConfig(**SMALL),
    "wavlm-large": WavLMConfig(**SMALL, **LAYER),
    "data2vec": Data2VecAudioConfig(**D2V),
    "unispeech-sat": UniSpeechSatConfig(**SMALL),
}
BASE = {
    "hubert": HubertConfig(),
    "distilhubert": HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False),
    "wav2vec2": Wav2Vec2Config(),
    "xls-r shape of base": Wav2Vec2Config(**LAYER),
    "wavlm": WavLMConfig(),
    "data2vec": Data2VecAudioConfig(),
}


def padded(waves: list[torch.Tensor], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    size = max(len(wave) for wave in waves) + extra
    values, mask = torch.full((len(waves), size), 3.0), torch.zeros(len(waves), size, dtype=torch.long)
    for row, wave in enumerate(waves):  # padding that is not zero: what it holds must not matter
        values[row, : len(wave)], mask[row, : len(wave)] = wave, 1
    return values, mask


def assert_same_in_any_batch(model: SERForAudioClassification, waves: list[torch.Tensor]) -> None:
    order = np.random.default_rng(1).permutation(len(waves))
    with torch.no_grad():
        alone = torch.cat([model(wave[None]).logits for wave in waves])
        together = model(*padded(waves)).logits
        shuffled = torch.empty_like(together)
        shuffled[order] = model(*padded([waves[i] for i in order])).logits
        far = torch.cat([model(*padded([wave], extra=160_000)).logits for wave in waves[::5]])
    for other in (together, shuffled):
        torch.testing.assert_close(other, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(far, alone[::5], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_scores_the_same_in_any_batch(family):
    assert_same_in_any_batch(build(FAMILIES[family]), clips(20, 0.1, 4.0))


@pytest.mark.parametrize("layer_mix", ["last", "weighted", 1])
@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive_stats"])
def test_every_pooling_and_mix_scores_the_same_in_any_batch(pooling, layer_mix):
    assert_same_in_any_batch(build(FAMILIES["hubert"], pooling=pooling, layer_mix=layer_mix), clips(8, 0.1, 4))


@pytest.mark.heavy
@pytest.mark.parametrize("family", BASE)
def test_a_clip_scores_the_same_in_any_batch_at_base_size(family, request, all_cores):
    # 20 clips up to 12 s cost a minute a family; HuBERT-base, the one the project stands on, always gets them all
    all_clips = family == "hubert" or request.config.getoption("--all-clips")
    assert_same_in_any_batch(build(BASE[family]), clips(20) if all_clips else clips(6, 0.1, 4.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_alone_and_unpadded_every_layer_is_the_stock_models(family):
    model = build(FAMILIES[family])
    wave = clips(1, 1.5)[0][None]
    untouched = AutoModel.from_config(model.config.backbone_config).eval()
    untouched.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        stock = untouched(wave, output_hidden_states=True)
        ours = [hidden for hidden, _ in model._states(wave, torch.ones_like(wave, dtype=torch.long))]
    torch.testing.assert_close(ours[-1], stock.last_hidden_state, atol=1e-6, rtol=0)
    for mine, theirs in zip(ours[:-1], stock.hidden_states, strict=False):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def norm_and_hidden() -> tuple[torch.nn.GroupNorm, torch.Tensor]:
    """A norm of six channels with weights of its own, and three clips of 50 frames far from mean 0."""
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(6, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm, torch.randn(3, 6, 50) + 5


@pytest.mark.parametrize("compiling", [False, True])
def test_the_norm_of_a_clip_is_the_stock_norm_of_its_valid_frames_also_as_it_is_compiled(compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    norm, hidden = norm_and_hidden()
    for frames in ([50, 50, 50], [50, 2, 20], [7, 7, 7]):
        normed = masked_group_norm(norm, hidden, torch.tensor(frames))
        for row, count in enumerate(frames):
            stock = torch.nn.GroupNorm.forward(norm, hidden[row : row + 1, :, :count])[0]
            torch.testing.assert_close(normed[row, :, :count], stock, atol=2e-5, rtol=0)


def test_without_padding_the_norm_is_the_stock_one_to_the_bit():
    norm, hidden = norm_and_hidden()
    for frames in (None, torch.tensor([50, 50, 50])):
        assert torch.equal(masked_group_norm(norm, hidden, frames), torch.nn.GroupNorm.forward(norm, hidden))


def test_mean_and_deviation_are_those_of_the_frames_in_the_mask():
    hidden, mask = torch.randn(2, 9, 4), torch.tensor([[True] * 5 + [False] * 4, [False, True] + [False] * 7])
    mean, deviation = masked_mean_std(hidden, mask)
    torch.testing.assert_close(mean, torch.stack([hidden[0, :5].mean(0), hidden[1, 1]]))
    torch.testing.assert_close(deviation[0], (hidden[0, :5].var(0, correction=0) + 1e-8).sqrt())
    torch.testing.assert_close(deviation[1], torch.full((4,), 1e-4))


def test_a_stock_model_in_the_same_process_is_untouched():
    torch.manual_seed(0)
    stock = HubertModel(HubertConfig(**SMALL)).eval()
    values, mask = padded(clips(3, 0.5, 2))
    with torch.no_grad():
        before = stock(values, attention_mask=mask).last_hidden_state
        build(HubertConfig(**SMALL))(values, mask)
        after = stock(values, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(before, after, atol=0, rtol=0)


@pytest.mark.parametrize("family", ["hubert", "hubert-large"])
def test_frames_are_counted_as_the_convolutions_make_them(family):
    model = build(FAMILIES[family])
    config = model.config.backbone_config
    assert min_samples(config) == 400
    lengths = torch.arange(400, 2001)
    counted = num_frames(lengths, config)
    with torch.no_grad():
        for length in range(400, 2001):
            made = model.backbone.feature_extractor(torch.zeros(1, length)).shape[-1]
            assert made == counted[length - 400] == model.backbone._get_feat_extract_output_lengths(length)


def test_a_batch_too_short_for_one_frame_is_refused():
    with pytest.raises(ValueError, match="399 samples make no frame; expected 400"):
        build(FAMILIES["hubert"])(torch.zeros(1, 399))


def test_spec_augment_masks_only_frames_of_the_clip():
    torch.manual_seed(0)
    frames = torch.tensor([3, 10, 57, 400])
    shares = torch.zeros(4)
    for _ in range(200):
        mask = span_mask(frames, 400, probability=0.2, length=10, min_spans=0)
        for row, count in enumerate(frames):
            assert not mask[row, count:].any()
        shares += mask.sum(1) / frames
    assert shares[0] == 0  # shorter than one span
    assert 0.1 < shares[3] / 200 < 0.22


@pytest.mark.parametrize("compiling", [False, True])
def test_spans_of_one_frame_fill_a_clip_and_no_more_also_as_they_are_compiled(compiling, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    frames = torch.tensor([1, 4, 6])
    everything = span_mask(frames, 6, probability=2.0, length=1, min_spans=0)
    assert torch.equal(everything, torch.arange(6) < frames[:, None])
    assert span_mask(frames, 6, probability=0.0, length=1, min_spans=2).sum(1).tolist() == [1, 2, 2]
    assert not span_mask(frames, 6, probability=1.0, length=7, min_spans=1).any()


@pytest.mark.parametrize("count", [9, 10, 12, 19, 25, 57, 200])
def test_spec_augment_masks_as_much_of_a_clip_as_transformers_does_whatever_the_batch(count):
    from transformers.models.hubert.modeling_hubert import _compute_mask_indices

    torch.manual_seed(0)
    np.random.seed(0)
    options = {"mask_prob": 0.3, "mask_length": 10, "min_masks": 2}
    stock = [_compute_mask_indices((1, count), **options).mean() for _ in range(1500)] if count >= 10 else [0.0]
    for beside in (count, 400):
        masks = span_mask(torch.tensor([count] * 1500 + [beside]), beside, probability=0.3, length=10, min_spans=2)
        ours = masks[:1500].float().sum(1).mean().item() / count
        assert ours == pytest.approx(np.mean(stock), abs=0.015)


@pytest.mark.parametrize("family", ["hubert", "xls-r", "wavlm", "data2vec"])
def test_training_reaches_every_parameter_with_and_without_gradient_checkpointing(family):
    backbone = copy.deepcopy(FAMILIES[family])
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        setattr(backbone, name, 0.0)
    backbone.mask_time_prob = 0.0
    model = build(backbone, pooling="attentive_stats", layer_mix="weighted", final_dropout=0.0).train()
    values, mask = padded(clips(3, 0.5, 2))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(values, mask, labels=torch.tensor([0, 1, 2])).loss.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None and "masked_spec" not in name] == []
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-4)


@pytest.mark.heavy
def test_it_works_under_bfloat16_autocast_and_compiled():
    model, (values, mask) = build(FAMILIES["hubert"]), padded(clips(3, 0.5, 2))
    with torch.no_grad():
        expected = model(values, mask).logits
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(values, mask).logits
        compiled = torch.compile(model)(values, mask).logits
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), expected, atol=0.15, rtol=0.1)
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=0)


def test_layers_above_the_chosen_one_are_neither_run_nor_trained():
    model = build(FAMILIES["hubert"], layer_mix=1)
    ran = []
    for number, layer in enumerate(model.backbone.encoder.layers):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    model(torch.randn(1, 8000), labels=torch.tensor([0])).loss.backward()
    assert ran == [0]
    assert not any(p.requires_grad for layer in model.backbone.encoder.layers[1:] for p in layer.parameters())


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
@pytest.mark.parametrize("layer_mix", ["last", "weighted", 2])
def test_cached_statistics_give_the_scores_of_the_full_model(pooling, layer_mix):
    model, batch = build(FAMILIES["wavlm"], pooling=pooling, layer_mix=layer_mix), padded(clips(4, 0.5, 2))
    with torch.no_grad():
        torch.testing.assert_close(model.classify(model.layer_statistics(*batch)), model(*batch).logits)


def test_statistics_cannot_stand_for_attention_over_frames():
    model = build(FAMILIES["hubert"], pooling="attentive_stats")
    with pytest.raises(ValueError, match="attentive_stats weighs single frames"):
        model.classify(torch.zeros(1, 4, 96))


def test_what_is_frozen_stays_and_the_rest_does_not():
    model = build(FAMILIES["hubert"])
    model.freeze_layers(2)
    trained = {name.split(".")[3] for name, p in model.named_parameters() if p.requires_grad and "layers" in name}
    assert trained == {"2"}
    assert not any(p.requires_grad for p in model.backbone.feature_extractor.parameters())
    assert all(p.requires_grad for p in model.classifier.parameters())
    with pytest.raises(ValueError, match="freeze_layers: 4 of a backbone of 3"):
        model.freeze_layers(4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer_mix": 13}, "layer 13 of a backbone of 3 layers; expected 0 to 3"),
        ({"layer_mix": "middle"}, "'middle' is not last, weighted, all or a layer's number"),
        ({"pooling": "max"}, "'max' is not one of mean, mean_std, attentive_stats"),
        ({"pooling": "attentive_stats", "attention_heads": 7}, "7 does not divide the backbone's hidden size 48"),
        ({"backbone_config": {"model_type": "bert"}}, "model_type 'bert' is not one of hubert"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        SERForAudioClassification(SERConfig(**{"backbone_config": HubertConfig(**SMALL), **config}))


def test_a_backbone_is_loaded_by_its_folder_with_nothing_missing(tmp_path):
    torch.manual_seed(1)
    stock = HubertModel(HubertConfig(**SMALL))
    stock.save_pretrained(tmp_path / "hubert")
    model = SERForAudioClassification.from_backbone(str(tmp_path / "hubert"), num_labels=6)
    for name, weight in stock.state_dict().items():
        torch.testing.assert_close(model.state_dict()[f"backbone.{name}"], weight, atol=0, rtol=0)
    assert str(tmp_path) not in model.config.to_json_string()


def test_a_missing_backbone_weight_is_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    HubertModel(HubertConfig(**SMALL)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layers.1.attention.q_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights missing \['encoder.layers.1.attention.q_proj.weight'\]"):
        SERForAudioClassification.from_backbone(str(tmp_path), num_labels=6)


def test_a_left_over_backbone_weight_is_an_error(tmp_path):
    HubertModel(HubertConfig(**SMALL)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ValueError, match="left over"):
        SERForAudioClassification.from_backbone(str(tmp_path), num_labels=6)


@pytest.mark.heavy
def test_the_saved_model_loads_without_this_project(tmp_path):
    model = build(FAMILIES["data2vec"], pooling="mean_std", layer_mix="weighted")
    model.save_pretrained(tmp_path)
    wave = clips(1, 1.0)[0][None]
    np.save(tmp_path / "wave.npy", wave.numpy())
    code = (
        "import sys, numpy as np, torch; from transformers import AutoModelForAudioClassification as A;"
        "m = A.from_pretrained(sys.argv[1], trust_remote_code=True).eval();"
        "print(m(torch.from_numpy(np.load(sys.argv[1] + '/wave.npy'))).logits.tolist()[0])"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    with torch.no_grad():
        expected = model(wave).logits[0]
    np.testing.assert_allclose(json.loads(process.stdout), expected, atol=1e-5)


def test_attention_is_chosen_by_name_and_checked_by_the_backbone(tmp_path):
    build(FAMILIES["hubert"]).save_pretrained(tmp_path)
    for name in ("eager", "sdpa"):
        model = SERForAudioClassification.from_pretrained(tmp_path, attn_implementation=name)
        assert model.backbone.config._attn_implementation == name
    assert AutoConfig.from_pretrained(tmp_path, trust_remote_code=True).backbone_config.model_type == "hubert"
    assert AutoModelForAudioClassification.from_pretrained(tmp_path, trust_remote_code=True) is not None

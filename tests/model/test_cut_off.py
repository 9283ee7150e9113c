"""An encoder cut off behind the layer that the head pools: smaller and faster, with equal scores."""

import pytest
import torch
from fakes import tiny
from fakes.backbones import build, clips
from fakes.tiny_runs import predictions_of, train
from fakes.tones import write_tones
from transformers import HubertConfig, Wav2Vec2BertConfig, WavLMConfig, WhisperConfig

from ser.run_folder import read_results
from ser_model import SERForAudioClassification, encoder_of

SMALL = {**tiny.SMALL, "num_hidden_layers": 3}
LARGE = {**SMALL, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
FAMILIES = {
    "hubert": HubertConfig(**SMALL),
    "hubert, large": HubertConfig(**LARGE),
    "wavlm": WavLMConfig(**SMALL),
    "whisper": WhisperConfig(
        d_model=32, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=48, max_source_positions=100
    ),
    "w2v-bert": Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48, output_hidden_size=32
    ),
}


def inputs_of(family: str) -> dict[str, torch.Tensor]:
    if family == "whisper":
        return {"input_features": torch.randn(2, 80, 200), "attention_mask": torch.ones(2, 200, dtype=torch.long)}
    if family == "w2v-bert":
        return {"input_features": torch.randn(2, 40, 160), "attention_mask": torch.ones(2, 40, dtype=torch.long)}
    return {"input_values": torch.stack(clips(2, 0.5, 0.5))}


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_scores_stay_equal_to_the_bit_also_after_saving(tmp_path, family, layer):
    model, batch = build(FAMILIES[family], layer_mix=layer, pooling="mean_std"), inputs_of(family)
    before, size = model(**batch).logits, model.num_parameters()
    model.cut_off_unused_layers()
    assert len(encoder_of(model.backbone).layers) == max(1, layer)
    assert model.num_parameters() < size
    model.save_pretrained(tmp_path)
    loaded = SERForAudioClassification.from_pretrained(tmp_path)
    assert loaded.num_parameters() == model.num_parameters()
    for cut in (model, loaded.eval()):
        torch.testing.assert_close(cut(**batch).logits, before, rtol=0, atol=0)
        assert len(cut(**batch, output_hidden_states=True).hidden_states) == max(1, layer) + 1


@pytest.mark.parametrize("layer_mix", ["last", "weighted", "all", 3])
def test_nothing_is_cut_off_where_the_last_layer_is_used(layer_mix):
    model = build(FAMILIES["hubert, large"], layer_mix=layer_mix, pooling="mean_std")
    model.cut_off_unused_layers()
    assert len(model.backbone.encoder.layers) == 3
    assert model.config.layers_cut_off == 0


def test_a_layer_that_was_cut_off_is_missed_by_its_number():
    model = build(FAMILIES["hubert"], layer_mix=1)
    model.cut_off_unused_layers()
    with pytest.raises(ValueError, match="layer 2 of a backbone of 1 layers, from which 2 were cut off"):
        model.new_head(2)


@pytest.mark.slow
def test_a_run_on_one_layer_saves_no_other_and_training_goes_on_from_there(tmp_path):
    manifest = write_tones(tmp_path)
    whole = train(tmp_path / "whole", manifest, "--layer_mix", "1", "--train_mode", "probe")
    model = SERForAudioClassification.from_pretrained(whole)
    assert len(model.backbone.encoder.layers) == 1
    assert read_results(whole)["model"]["layers_cut_off"] == 1
    again = train(tmp_path / "again", manifest, "--do_train", "false", "--model_name_or_path", str(whole))
    torch.testing.assert_close(
        torch.tensor(predictions_of(again).filter(like="p_").to_numpy()),
        torch.tensor(predictions_of(whole).filter(like="p_").to_numpy()),
        rtol=0,
        atol=1e-5,
    )
    further = train(
        tmp_path / "further",
        manifest,
        "--model_name_or_path",
        str(whole),
        "--layer_mix",
        "1",
        "--backbone_config",
        "{}",
    )
    assert SERForAudioClassification.from_pretrained(further).config.layers_cut_off == 1

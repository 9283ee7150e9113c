"""LoRA: trained where it is asked for, gone before anything is saved."""

import pytest
import torch
from fakes.tiny import SMALL
from torch import nn
from transformers import HubertConfig, Wav2Vec2BertConfig, WavLMConfig

from ser.training.arguments import ModelArguments
from ser.training.lora import add_lora, merge_lora
from ser_model import SERConfig, SERForAudioClassification

BACKBONES = {
    "hubert": HubertConfig(**SMALL),
    "wavlm": WavLMConfig(**SMALL),
    "w2v-bert": Wav2Vec2BertConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        feature_projection_input_dim=16, output_hidden_size=48,
    ),
}  # fmt: skip


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name == "w2v-bert":
        return {"input_features": torch.randn(2, 30, 16, generator=generator)}
    return {"input_values": torch.randn(2, 8000, generator=generator)}


@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_learnt_is_kept_when_it_is_merged_and_no_layer_of_peft_is_left(name):
    torch.manual_seed(0)
    model = SERForAudioClassification(SERConfig(backbone_config=BACKBONES[name], num_labels=3)).eval()
    names, before = list(model.state_dict()), model(**inputs_of(name)).logits.detach()
    assert add_lora(model, ModelArguments(lora_rank=4)) == 8
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        model(**inputs_of(name), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    updates = [weight for key, weight in model.named_parameters() if "lora_B" in key]
    assert len(updates) == 8
    assert all(weight.abs().max() > 0 for weight in updates)
    trained = model(**inputs_of(name)).logits.detach()
    merge_lora(model)
    assert list(model.state_dict()) == names
    assert not torch.allclose(trained, before, atol=1e-3)
    torch.testing.assert_close(model(**inputs_of(name)).logits, trained, atol=1e-5, rtol=0)


def test_a_backbone_without_attention_projections_is_refused():
    model = SERForAudioClassification(SERConfig(backbone_config=BACKBONES["hubert"], num_labels=3))
    for layer in model.backbone.encoder.layers:
        layer.attention.q_proj = nn.Identity()
    with pytest.raises(ValueError, match="--lora_rank: HubertModel has none of the projections"):
        add_lora(model, ModelArguments(lora_rank=4))

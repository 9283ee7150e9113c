"""`--torch_compile true`: the layers are compiled, and training is what it was."""

import json

import numpy as np
import pytest
import torch
from fakes.tiny_runs import TINY, train
from fakes.tones import write_tones
from safetensors.torch import load_file

QUIET = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
FLAGS = [
    *("--backbone_config", json.dumps({**TINY["backbone_config"], **QUIET}), "--final_dropout", "0"),
    *("--logging_strategy", "steps", "--logging_steps", "1", "--num_train_epochs", "2"),
    *("--per_device_train_batch_size", "2"),
]


def losses_of(folder) -> list[float]:
    log = json.loads((folder / "training_log.json").read_text())
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.mark.heavy
@pytest.mark.parametrize("pooling", ["mean", "mean_std", "attentive_stats"])
def test_compiled_layers_train_on_clips_of_any_length_as_others_do(pooling, tmp_path):
    manifest = write_tones(tmp_path / "tones")
    flags = [*FLAGS, "--pooling", pooling]
    plain = train(tmp_path / "plain", manifest, *flags)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = train(tmp_path / "compiled", manifest, *flags, "--torch_compile", "true")
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    np.testing.assert_allclose(losses_of(compiled), losses_of(plain), atol=1e-4)
    weights = [load_file(folder / "model.safetensors") for folder in (plain, compiled)]
    assert weights[0].keys() == weights[1].keys()

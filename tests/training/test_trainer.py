"""Training: the gradient does not depend on how a batch is cut, nor the weights on a kill in between."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes.one_step import CLASSES, LABELS, corpus, gradient_of_one_step, small_model
from fakes.tiny import feature_extractor

from ser.data.batching import Clips, Collator
from ser.training import frozen_head
from ser.training.arguments import ModelArguments, SERTrainingArguments
from ser.training.freezing import freeze
from ser.training.losses import concordance_loss
from ser.training.mixup import BalancedMixup
from ser.training.trainer import SERTrainer

FAKES = Path(__file__).parents[1] / "fakes"


def assert_equal_gradients(first, second):
    assert first.keys() == second.keys()
    assert sum(gradient.abs().sum() for gradient in first.values()) > 0
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted", "focal", "logit_adjusted"])
def test_two_accumulated_batches_of_four_have_the_gradient_of_one_of_eight(loss, tmp_path):
    whole = gradient_of_one_step("", 8, 1, loss, str(tmp_path / "whole"))
    parts = gradient_of_one_step("", 4, 2, loss, str(tmp_path / "parts"))
    assert_equal_gradients(whole, parts)


@pytest.mark.heavy
@pytest.mark.parametrize("loss", ["cross_entropy", "weighted"])
def test_two_processes_of_four_have_the_gradient_of_one_batch_of_eight(loss, tmp_path):
    out = tmp_path / "gradient.pt"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, FAKES.parents[:2])), "OMP_NUM_THREADS": "1"}
    command = [*launch, "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(FAKES / "one_step.py")]
    subprocess.run([*command, str(out), "4", "1", loss], check=True, env=environment, capture_output=True)
    whole = gradient_of_one_step("", 8, 1, loss, str(tmp_path / "whole"))
    assert_equal_gradients(whole, torch.load(out, weights_only=True))


def logged_loss(folder: Path, targets: np.ndarray) -> tuple[float, float]:
    """The loss that is logged for one step on eight clips of three numbers each, and the loss by definition."""
    model = small_model(problem_type="regression")
    clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7], CLASSES), targets)
    batch = Collator(feature_extractor())([clips[row] for row in range(8)])
    with torch.no_grad():
        outputs = model(batch["input_values"], batch["attention_mask"]).logits
    args = SERTrainingArguments(
        output_dir=str(folder), max_steps=1, logging_steps=1, logging_strategy="steps", eval_strategy="no",
        save_strategy="no", disable_tqdm=True, use_cpu=True, per_device_train_batch_size=8,
    )  # fmt: skip
    trainer = SERTrainer(model, args, ModelArguments(), list("vad"), Collator(feature_extractor()), train_dataset=clips)
    trainer.train()
    logged = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return logged, concordance_loss(outputs, batch["labels"]).item()


def test_the_loss_of_a_regression_is_divided_by_clips_and_not_by_numbers(tmp_path):
    targets = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    logged, expected = logged_loss(tmp_path, targets)
    assert logged == pytest.approx(expected, abs=1e-4)
    assert expected > 0.5


def test_mixup_draws_anew_for_every_batch_that_is_accumulated(tmp_path, monkeypatch):
    keys = []
    mix = BalancedMixup.__call__
    monkeypatch.setattr(BalancedMixup, "__call__", lambda self, *a: keys.append(a[-1]) or mix(self, *a))
    trainer = trainer_of(
        tmp_path, small_model(), ModelArguments(mixup_alpha=0.5), gradient_accumulation_steps=2, num_train_epochs=2
    )
    trainer.train()
    assert len(keys) == len(set(keys)) == 8


@pytest.mark.parametrize("loss", ["weighted", "logit_adjusted"])
def test_classes_that_the_sampler_balances_are_not_balanced_again_by_the_loss(loss, tmp_path):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    targets = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 0, 1, 2]), 3).float()
    for mixup_alpha in (0.0, 0.3):
        arguments = ModelArguments(loss=loss, balanced_sampler=True, mixup_alpha=mixup_alpha)
        found = trainer_of(tmp_path, small_model(), arguments).class_loss(logits, targets)
        torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, targets, reduction="none"))


@pytest.mark.parametrize("loss", ["weighted", "logit_adjusted"])
def test_a_head_fitted_on_frozen_statistics_balances_classes_once_too(loss, monkeypatch):
    seen = []
    monkeypatch.setattr(frozen_head, "fit_head", lambda *given: seen.append(given) or 0.0)
    arguments = ModelArguments(loss=loss, balanced_sampler=True)
    job = SimpleNamespace(model=arguments, training=SimpleNamespace(label_smoothing_factor=0.0))
    frozen_head._fit(job, small_model(), torch.zeros(8, 1), np.array(CLASSES), 0.1)
    *_, targets, of_clip, _, weights = seen[0]
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(of_clip(logits, targets), expected)
    torch.testing.assert_close((weights[:, None] * targets).sum(0), torch.full((3,), 8 / 3))


def test_a_loss_weighs_classes_as_mixup_serves_them(tmp_path):
    plain = trainer_of(tmp_path, small_model(), ModelArguments(loss="weighted"))
    mixed = trainer_of(tmp_path, small_model(), ModelArguments(loss="weighted", mixup_alpha=0.5))
    ones = torch.ones(3, 3) / 3
    rare = torch.eye(3)[1].repeat(3, 1)
    assert mixed.class_loss(ones, rare).sum() < plain.class_loss(ones, rare).sum()


def trainer_of(folder: Path, model, model_arguments: ModelArguments | None = None, **arguments) -> SERTrainer:
    usual = {"eval_strategy": "no", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "seed": 3}
    args = SERTrainingArguments(output_dir=str(folder), **{**usual, "per_device_train_batch_size": 2, **arguments})
    clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7], CLASSES), CLASSES)
    return SERTrainer(
        model, args, model_arguments or ModelArguments(), LABELS, Collator(feature_extractor()), train_dataset=clips
    )


def test_a_resumed_training_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    mixed = ModelArguments(mixup_alpha=0.5, balanced_sampler=True)
    unbroken, broken = small_model(), small_model()
    trainer_of(tmp_path / "a", unbroken, mixed, num_train_epochs=3).train()
    saving = {"save_strategy": "steps", "save_steps": 5, "save_total_limit": None, "load_best_model_at_end": False}
    trainer_of(tmp_path / "b", broken, mixed, num_train_epochs=3, **saving).train()
    resumed = small_model()
    trainer = trainer_of(tmp_path / "b", resumed, mixed, num_train_epochs=3, **saving)
    trainer.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-5"))
    for name, weight in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


def learning_rates(model, arguments: ModelArguments, tmp_path) -> dict[str, float]:
    optimizer = trainer_of(tmp_path, model, arguments, learning_rate=1.0).create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_each_layer_learns_slower_than_the_one_above_it(tmp_path):
    from transformers import HubertConfig

    from ser_model import SERConfig, SERForAudioClassification

    backbone = HubertConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=(16, 16),
        conv_kernel=(400, 3), conv_stride=(160, 2), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = SERForAudioClassification(SERConfig(backbone_config=backbone, num_labels=3))
    rates = learning_rates(model, ModelArguments(layer_lr_decay=0.5, head_learning_rate=7.0), tmp_path)
    of_layer = [rates[f"backbone.encoder.layers.{i}.attention.q_proj.weight"] for i in range(3)]
    assert of_layer == [0.25, 0.5, 1.0]
    assert rates["backbone.feature_projection.projection.weight"] == 0.125
    assert rates["classifier.weight"] == 7.0
    assert rates.keys() == {name for name, _ in model.named_parameters()}


def test_only_what_is_asked_for_is_trained(tmp_path):
    cases = {
        "nothing frozen": (ModelArguments(), lambda name: True),
        "convolutions": (ModelArguments(freeze_feature_encoder=True), lambda name: "feature_extractor" not in name),
        "backbone": (ModelArguments(freeze_base_model=True), lambda name: "backbone" not in name),
    }
    for arguments, is_trained in cases.values():
        model = small_model(pooling="attentive_stats", layer_mix="weighted")
        freeze(model, arguments)
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        trainer_of(tmp_path, model, arguments, num_train_epochs=1, learning_rate=1e-2).train()
        for name, weight in model.named_parameters():
            assert torch.equal(weight, before[name]) != is_trained(name), name


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "weighted", "focal", "logit_adjusted"])
def test_a_few_clips_can_be_learnt_by_heart(loss, tmp_path):
    model = small_model(pooling="mean_std")
    trainer = trainer_of(tmp_path, model, ModelArguments(loss=loss), num_train_epochs=30, learning_rate=1e-2)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.05 < losses[0]


def test_dev_scores_are_those_of_scikit_learn(tmp_path):
    from sklearn.metrics import balanced_accuracy_score

    trainer = trainer_of(tmp_path, small_model())
    output = trainer.predict(trainer.train_dataset)
    expected = balanced_accuracy_score(CLASSES, np.argmax(output.predictions, -1))
    assert output.metrics["test_uar"] == pytest.approx(expected)

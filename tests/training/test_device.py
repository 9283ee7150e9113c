"""What the device decides: batches that fit into its memory, the precision, and the words when memory is short."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from fakes.tiny_runs import launch, predictions_of, train
from fakes.tones import write_tones
from transformers import pipeline

from ser.training.arguments import SERTrainingArguments, usual_batch_seconds
from ser_model import SERForAudioClassification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def half_precision_run(tmp_path_factory, manifest):
    return train(tmp_path_factory.mktemp("half") / "run", manifest, "--bf16", "true", "--num_train_epochs", "2")


def test_a_model_trained_in_half_precision_is_scored_as_the_pipeline_scores_it(half_precision_run, manifest):
    classify = pipeline("audio-classification", model=str(half_precision_run), trust_remote_code=True, top_k=None)
    for row in predictions_of(half_precision_run).to_dict("records"):
        for answer in classify(str(manifest.parent / f"{row['id']}.wav")):
            assert answer["score"] == pytest.approx(row[f"p_{answer['label']}"], abs=1e-5)


def test_the_log_says_which_share_of_an_epoch_waited_for_data(half_precision_run):
    log = json.loads((half_precision_run / "training_log.json").read_text())
    waits = [entry["data_wait"] for entry in log if "loss" in entry]
    assert len(waits) == 2
    assert all(0 <= wait < 1 for wait in waits)
    assert not any("data_wait" in entry for entry in log if "eval_loss" in entry)


@pytest.mark.parametrize(("gigabytes", "seconds"), [(1, 8), (8, 32), (24, 64), (80, 64)])
def test_a_batch_is_as_long_as_the_memory_of_the_gpu_allows(monkeypatch, gigabytes, seconds):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    facts = SimpleNamespace(total_memory=gigabytes * 1e9 + 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    assert usual_batch_seconds(use_cpu=False) == seconds
    assert usual_batch_seconds(use_cpu=True) == 32


def test_clips_in_a_batch_are_counted_where_their_number_is_given(tmp_path):
    def of(**flags):
        args = SERTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **flags)
        return args.batch_seconds, args.per_device_train_batch_size

    assert of() == (32, 8)
    assert of(per_device_train_batch_size=4) == (0, 4)
    assert of(batch_seconds=0) == (0, 8)
    assert of(batch_seconds=16.0, per_device_train_batch_size=4) == (16, 4)


def test_bfloat16_is_the_default_of_a_gpu_that_has_it_unless_a_launcher_decides(tmp_path, monkeypatch):
    from ser.training import arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)
    assert arguments.trains_in_bfloat16(use_cpu=False)
    assert not arguments.trains_in_bfloat16(use_cpu=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert not arguments.trains_in_bfloat16(use_cpu=False)
    monkeypatch.undo()
    assert SERTrainingArguments(output_dir=str(tmp_path)).bf16 is torch.cuda.is_available()


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        (["--batch_seconds", "8"], "Give --batch_seconds 4 --gradient_accumulation_steps 2"),
        ([], "Give --per_device_train_batch_size 4 --gradient_accumulation_steps 2"),
        (["--per_device_train_batch_size", "1"], "Crop long clips with --max_train_seconds 1"),
    ],
)
def test_without_memory_the_batch_and_the_flags_that_help_are_named(
    flags, cure, tmp_path, manifest, monkeypatch, capsys
):
    def forward(*args, **kwargs):
        return torch.empty(2**60)  # torch's own error

    monkeypatch.setattr(SERForAudioClassification, "forward", forward)
    assert launch(tmp_path / "run", manifest, "--eval_strategy", "no", *flags) == 2
    error = capsys.readouterr().err
    assert "out of memory at step 1" in error
    assert "Traceback" not in error
    assert cure in error
    assert pd.read_csv(manifest)["path"].str.removesuffix(".wav").map(error.__contains__).any()

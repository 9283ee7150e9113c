"""Runs that were stopped, damaged or started twice: they go on with the same command and end as unbroken ones."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.tiny_runs import ROOT, launch, predictions_of, train
from fakes.tones import CLASSES, write_tones
from safetensors.torch import load_file

import run_ser
from ser.run_folder import FINISHED, LOCK, begin, is_finished
from ser.training.checkpoints import checkpoint_to_continue, damage_of
from ser.training.signals import Stopped, received, stop_in_order
from ser.training.trainer import SERTrainer

pytestmark = pytest.mark.slow

FLAGS = ("--num_train_epochs", "3", "--save_total_limit", "3")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, manifest) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", manifest, *FLAGS)


def stopped_at(step: int, folder: Path, manifest: Path, monkeypatch, *flags: str) -> int:
    """Launches a run that gets SIGTERM while it makes a step; its exit code."""
    make = SERTrainer.training_step

    def step_with_signal(self, *args, **kwargs):
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return make(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SERTrainer, "training_step", step_with_signal)
        return launch(folder, manifest, *FLAGS, *flags)


def assert_same_models(first: Path, second: Path):
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, atol=0, rtol=0)
    columns = [f"p_{label}" for label in CLASSES]
    np.testing.assert_array_equal(predictions_of(first)[columns], predictions_of(second)[columns])


@pytest.mark.parametrize("step", [4, 1])
def test_a_signal_ends_a_run_after_its_step_and_the_same_command_gives_the_unbroken_model(
    step, tmp_path, manifest, whole, monkeypatch, capsys
):
    folder = tmp_path / "run"
    assert stopped_at(step, folder, manifest, monkeypatch) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM at checkpoint-" in (error := capsys.readouterr().err)
    assert "Traceback" not in error
    assert damage_of(folder / "checkpoints" / f"checkpoint-{step + 1}") is None
    assert not is_finished(folder)
    train(folder, manifest, *FLAGS, "--resume_from_checkpoint", "true")
    assert "goes on from checkpoint-" in capsys.readouterr().out
    assert_same_models(whole, folder)


@pytest.fixture
def broken(tmp_path, manifest, monkeypatch) -> Path:
    folder = tmp_path / "broken"
    assert stopped_at(5, folder, manifest, monkeypatch, "--hub_token", "hf_secret") == 143
    return folder


def test_no_file_of_an_unfinished_run_holds_the_token(broken):
    assert not [path for path in broken.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
def test_a_damaged_checkpoint_is_named_and_an_older_whole_one_is_taken(name, broken, capsys):
    names = sorted(path.name for path in (broken / "checkpoints").iterdir())
    assert len(names) > 1
    newest = broken / "checkpoints" / names[-1]
    content = bytearray((newest / name).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / name).write_bytes(content)
    assert damage_of(newest) == f"{name} is damaged"
    assert checkpoint_to_continue(broken) == str(broken / "checkpoints" / names[-2])
    for older in names:
        (broken / "checkpoints" / older / name).unlink()
    capsys.readouterr()
    assert checkpoint_to_continue(broken) is None
    said = capsys.readouterr().out
    assert f"{newest} is not used: {name} is missing" in said
    assert "training starts from the beginning" in said


def test_a_path_to_resume_from_is_checked(broken, manifest, capsys):
    for path, message in (("nowhere", "is not there"), ("false", "an unfinished run always goes on")):
        assert launch(broken, manifest, *FLAGS, "--resume_from_checkpoint", path) == 2
        assert message in capsys.readouterr().err


def test_an_ending_that_was_killed_is_finished_without_training(tmp_path, manifest, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_ser, "write_report", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            launch(folder, manifest)
    assert (folder / "results.json").is_file()
    assert not is_finished(folder)
    monkeypatch.setattr(run_ser, "make_model", lambda *_: pytest.fail("trained again"))
    train(folder, manifest)
    assert (folder / "report.html").is_file()
    assert is_finished(folder)


def test_a_run_from_before_the_marker_is_finished_when_its_report_is_there(tmp_path):
    for name in ("results.json", "report.html"):
        assert not is_finished(tmp_path)
        (tmp_path / name).write_text("{}")
    assert is_finished(tmp_path)
    begin(tmp_path)
    assert not is_finished(tmp_path)
    fold = tmp_path / "seed-1" / "fold-0"
    fold.mkdir(parents=True)
    (fold / "results.json").write_text("{}")
    assert is_finished(fold)
    assert FINISHED == "finished.json"


def test_a_loss_that_is_not_finite_stops_and_names_step_rate_and_clips(tmp_path, manifest, capsys):
    assert launch(tmp_path / "run", manifest, "--learning_rate", "1e38", "--max_grad_norm", "0") == 2
    error = capsys.readouterr().err
    assert "not finite" in error
    assert "learning rate of" in error
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_second_run_on_one_folder_is_refused_and_told_who_holds_it(tmp_path, manifest, capsys):
    from ser.files import held_by_this_process

    folder = tmp_path / "run"
    with held_by_this_process(folder / LOCK, "--output_dir"):
        assert launch(folder, manifest) == 2
        assert f"is in use by another run: process {os.getpid()} on" in capsys.readouterr().err
    assert not folder.exists()
    folder.mkdir()
    (folder / LOCK).write_text('{"pid": 1, "host": "a", "since": "then"}')  # of a process that died
    train(folder, manifest)
    assert not (folder / LOCK).exists()


@pytest.mark.heavy
def test_a_signal_outside_of_training_ends_the_process_with_one_line(tmp_path, manifest):
    launch(tmp_path / "x", manifest, "--fold", "9")
    prepare = "lambda *_: os.kill(os.getpid(), signal.SIGHUP) or time.sleep(9)"
    # Under nohup SIGHUP is ignored, and stays so.
    code = "import os, signal, sys, time, run_ser\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    code += f"run_ser.prepare = {prepare}\nsys.exit(run_ser.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        [*command, str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "run")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert found.returncode == 128 + signal.SIGHUP
    assert found.stderr.splitlines()[-1].startswith("run_ser.py: stopped by SIGHUP")
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_said_in_one_line(tmp_path, manifest, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_ser, "write_predictions", full)
        assert launch(tmp_path / "run", manifest) == 2
    assert f"the disk of {tmp_path / 'run'} is full" in capsys.readouterr().err
    train(tmp_path / "run", manifest)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["test"]["n"]


def test_a_killed_pass_of_the_backbone_goes_on_and_gives_the_same_statistics(tmp_path, monkeypatch):
    from fakes.one_step import CLASSES as TARGETS
    from fakes.one_step import corpus, small_model
    from fakes.tiny import feature_extractor

    from ser.data.batching import Clips, Collator
    from ser.training import frozen_features

    monkeypatch.setattr(frozen_features, "SHARD_CLIPS", 2)
    monkeypatch.setitem(frozen_features.BATCH_SECONDS, "cpu", 2.0)
    clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7], TARGETS), TARGETS)
    model, collator = small_model(), Collator(feature_extractor())
    whole = frozen_features.corpus_statistics(clips, model, collator, tmp_path / "a").tables[0]
    make, calls = type(model).layer_statistics, []

    def counted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        return make(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "layer_statistics", counted)
    killed_at = 3
    with pytest.raises(KeyboardInterrupt):
        frozen_features.corpus_statistics(clips, model, collator, tmp_path / "b")
    killed_at, before = 0, len(calls)
    resumed = frozen_features.corpus_statistics(clips, model, collator, tmp_path / "b").tables[0]
    np.testing.assert_array_equal(resumed, whole)
    again = len(calls) - before
    frozen_features.corpus_statistics(clips, model, collator, tmp_path / "c")
    assert 0 < again < len(calls) - before - again
    assert not list((tmp_path / "b").rglob("*.parts"))


def test_a_model_is_scored_by_the_names_of_its_classes(whole, manifest, tmp_path, capsys):
    import pandas as pd

    from ser_model import SERForAudioClassification

    flags = ("--do_train", "false", "--allow_outside_paths", "true", "--model_name_or_path")
    columns = [f"p_{label}" for label in CLASSES]
    turned = tmp_path / "turned"
    shutil.copytree(whole, turned)
    model = SERForAudioClassification.from_pretrained(whole)
    names = list(model.config.id2label.values())
    order = [*range(1, len(names)), 0]
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[order].clone())
        model.classifier.bias.copy_(model.classifier.bias[order].clone())
    model.config.id2label = {index: names[old] for index, old in enumerate(order)}
    model.config.label2id = {name: index for index, name in model.config.id2label.items()}
    model.save_pretrained(turned)
    found = predictions_of(train(tmp_path / "again", manifest, *flags, str(turned)))
    np.testing.assert_allclose(found[columns], predictions_of(whole)[columns], atol=1e-6)

    rows = pd.read_csv(manifest)
    rows["path"] = [str(manifest.parent / path) for path in rows["path"]]
    rows["speaker"] = "other " + rows["speaker"]
    rows.replace({"label": {names[0]: "rage"}}).to_csv(tmp_path / "other.csv", index=False)
    assert launch(tmp_path / "unknown", tmp_path / "other.csv", *flags, str(whole)) == 2
    assert f"the model knows {', '.join(names)}; the corpus has" in capsys.readouterr().err
    mapping = json.dumps({"rage": None, **{name: name for name in names[1:]}})
    fewer = train(tmp_path / "fewer", tmp_path / "other.csv", *flags, str(whole), "--label_map", mapping)
    assert set(predictions_of(fewer)["truth"]) == set(names[1:])


@pytest.mark.parametrize("flags", [(), ("--fold", "all")])
def test_a_folder_in_which_nothing_was_trained_is_not_left_behind(flags, tmp_path, manifest):
    assert launch(tmp_path / "run", manifest, "--layer_mix", "13", *flags) == 2
    assert not (tmp_path / "run").exists()


def test_workers_of_a_run_end_at_the_signal_of_their_parent():
    with stop_in_order():
        for _ in range(50):  # some are ended before they run
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            worker.start()
            worker.terminate()
            worker.join(20)
            assert worker.exitcode == -signal.SIGTERM
        with pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    assert received() is None

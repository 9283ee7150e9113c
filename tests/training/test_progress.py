"""What a run says while it trains and at its end: lines that can be read in a file."""

import os
import pty
import re
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest
import yaml
from fakes.tiny_runs import ROOT, SMALLEST, TINY
from fakes.tones import write_tones

from ser.progress import Lines
from ser.training.progress import EpochLines, log_words

FINISHED = {"eval_loss": 1.5, "eval_uar": 0.4478, "eval_accuracy": 0.41, "eval_runtime": 0.8, "epoch": 2.0}


def lines_of(capsys, *logs, eval_strategy="epoch", logging_strategy="epoch") -> list[str]:
    lines = EpochLines()
    state = SimpleNamespace(is_world_process_zero=True, num_train_epochs=12, global_step=40)
    for log in logs:
        lines.on_log(
            SimpleNamespace(eval_strategy=eval_strategy, logging_strategy=logging_strategy), state, None, logs=log
        )
    return capsys.readouterr().out.splitlines()


def test_loss_and_dev_scores_of_an_epoch_are_one_line(capsys):
    found = lines_of(capsys, {"loss": 1.568, "epoch": 2.0}, FINISHED)
    assert found == ["epoch 2 of 12: loss 1.568, dev loss 1.500, UAR 0.448, accuracy 0.410"]


def test_a_loss_without_dev_scores_is_a_line_at_once(capsys):
    for strategies in ({"eval_strategy": "no"}, {"logging_strategy": "steps"}):
        assert lines_of(capsys, {"loss": 1.568, "epoch": 0.25}, **strategies) == ["epoch 0.25 of 12: loss 1.568"]


def test_the_last_line_of_training_is_its_time(capsys):
    found = lines_of(capsys, {"loss": 1.0, "epoch": 2.0}, {"train_runtime": 125.0, "train_loss": 1.2, "epoch": 2.0})
    assert found == ["epoch 2 of 12: loss 1.000", "trained 40 steps in 2 min 5 s"]


def test_speeds_are_left_out():
    assert log_words({"eval_runtime": 1.0, "eval_samples_per_second": 2.0}) == ""


def test_long_work_is_told_in_tenths_and_short_work_not_at_all(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("ser.progress.time.monotonic", lambda: now)
    with Lines(3000, "clip", "backbone") as progress:
        for now in range(3, 303, 3):  # noqa: B007
            progress.update(30)
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 10
    assert found[0] == "backbone: 300 of 3,000 clips, 30 s"
    with Lines(3000, "clip", "backbone") as progress:
        now += 2
        progress.update(3000)
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("progress")
    config = TINY | {"manifest": str(write_tones(folder)), "backbone_config": SMALLEST, "num_train_epochs": 2}
    del config["disable_tqdm"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"cache_dir": str(folder / "cache")}))
    return [sys.executable, str(ROOT / "run_ser.py"), str(folder / "config.yaml"), "--overwrite", "true"]


@pytest.mark.heavy
def test_in_a_file_a_run_is_whole_lines_without_escape_codes_or_dictionaries(command, tmp_path):
    found = subprocess.run([*command, "--output_dir", str(tmp_path / "run")], capture_output=True, cwd=ROOT)
    said = (found.stdout + found.stderr).decode()
    assert found.returncode == 0, said
    assert not re.search(r"[\r\x1b{]|it/s", said)
    lines = found.stdout.decode().splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 2
    assert re.match(r"class +recall +clips$", lines[-5])
    assert re.match(r"anger +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\] +\d+$", lines[-4])


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="needs a terminal")
def test_on_a_terminal_there_is_a_bar_and_the_same_lines(command, tmp_path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    command = [*command, "--output_dir", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # Linux says so at the end
            break
        if not block:
            break
        said += block
    os.close(ours)
    assert process.wait() == 0
    assert b"it/s" in said
    assert said.count(b"epoch 1 of 2: loss") == 1
    assert b"{" not in said


@pytest.mark.heavy
def test_in_a_file_the_preparation_of_a_corpus_is_whole_lines_too(command, tmp_path):
    script, config = str(ROOT / "data_prep.py"), command[2]
    flags = ["--output_dir", str(tmp_path / "data"), "--cache_dir", str(tmp_path / "cache")]
    found = subprocess.run([sys.executable, script, config, *flags], capture_output=True, cwd=ROOT)
    said = (found.stdout + found.stderr).decode()
    assert found.returncode == 0, said
    assert "data.html" in said
    assert not re.search(r"[\r\x1b]|it/s|examples/s", said)

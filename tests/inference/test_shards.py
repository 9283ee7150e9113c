"""A folder of shards: how a stopped run goes on, and how processes share the work."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes.cli_runs import by_label, ser, write
from fakes.tiny import LABELS, noise, tiny_model

from ser.inference import scoring, shards

ROOT = Path(__file__).parents[2]


def folder_rows(folder: Path) -> dict[str, dict]:
    rows = pq.read_table(folder).to_pylist()
    assert len({row["file"] for row in rows}) == len(rows), "a file was scored twice"
    return {row["file"]: row for row in rows}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards.write_shards, "__defaults__", (2,))


@pytest.mark.usefixtures("small_shards")
def test_a_stopped_run_goes_on_where_it_was(classify, clips, model_dir, tmp_path, monkeypatch):
    (clips / "text.wav").write_text("no audio")
    output, scored = tmp_path / "out", []
    arguments = (clips, "--model", model_dir, "--output", output, "--resume")
    predict = scoring.predict

    def stopped(pipe, files, *_):
        for number, answer in enumerate(predict(pipe, files)):
            if number == 3:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(scoring, "predict", stopped)
    assert ser(*arguments).exit_code != 0
    assert len(folder_rows(output)) == 2
    monkeypatch.setattr(scoring, "predict", lambda pipe, files, *_: predict(pipe, scored.extend(files) or scored))
    result = ser(*arguments)
    assert result.exit_code == 1
    assert "text.wav: is not audio" in result.stderr
    assert len(scored) == 4
    rows = folder_rows(output)
    assert len(rows) == 6
    assert rows[str(clips / "text.wav")]["error"].startswith("is not audio")
    for name in ("a.wav", "d.WAV"):
        expected = by_label(classify(clips / name))
        assert {label: rows[str(clips / name)][f"p_{label}"] for label in LABELS} == pytest.approx(expected, abs=1e-5)
    scored.clear()
    assert ser(*arguments).exit_code == 1, "a bad file is reported again"
    assert scored == []


@pytest.mark.usefixtures("small_shards")
def test_processes_share_the_files_and_their_number_may_change(clips, model_dir, tmp_path, monkeypatch):
    for number in range(12):
        write(clips / f"{number}.wav", noise(0.3, number))
    output = tmp_path / "out"
    arguments = (clips, "--model", model_dir, "--output", output, "--resume")
    for rank, world_size in ((0, 3), (1, 2), (0, 2)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world_size))
        before = len(folder_rows(output)) if output.exists() else 0
        assert ser(*arguments).exit_code == 0
        assert before < len(folder_rows(output))
    assert len(folder_rows(output)) == 17


def test_several_processes_need_a_folder_to_share(clips, model_dir, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "--resume: several processes need it" in ser(clips, "--model", model_dir).stderr


def test_a_folder_of_other_answers_or_other_files_is_refused(clips, model_dir, tmp_path):
    arguments = (clips / "a.wav", "--output", tmp_path / "out", "--resume")
    assert ser(*arguments, "--model", model_dir).exit_code == 0
    other = tiny_model(tmp_path / "other", seed=1)
    assert "holds answers with model" in ser(*arguments, "--model", other).stderr
    assert "holds answers with columns" in ser(*arguments, "--model", model_dir, "--timeline").stderr
    assert "holds other files" in ser(clips, "--model", model_dir, "--output", clips, "--resume").stderr
    assert len(folder_rows(tmp_path / "out")) == 1


@pytest.mark.heavy
def test_two_launched_processes_do_all_the_work_and_fail_together_at_the_end(clips, model_dir, tmp_path):
    (clips / "text.wav").write_text("no audio")
    script = tmp_path / "launched.py"
    script.write_text("from ser.cli import app\napp()\n")
    output = tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    command = [*launch, "predict", str(clips), "--model", str(model_dir), "--output", str(output), "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode != 0
    assert "text.wav: is not audio" in run.stderr
    assert len(folder_rows(output)) == 6

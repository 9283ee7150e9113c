"""A folder of shards: how a stopped run goes on."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes.cli_runs import by_label, ser
from fakes.tiny import LABELS, tiny_model

from ser.files import held_by_this_process
from ser.inference import scoring, shards


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


def test_several_processes_are_refused_because_each_would_score_every_file(clips, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for flags in ((), ("--resume", "--output", tmp_path / "out")):
        result = ser(clips, "--model", "nowhere", *flags)
        assert result.exit_code == 2
        assert "started in 2 processes (WORLD_SIZE)" in result.stderr
        assert "add --ray" in result.stderr


def test_a_folder_that_another_command_fills_is_left_to_it(clips, model_dir, tmp_path):
    output = tmp_path / "out"
    with held_by_this_process(output / "_lock", "it"):
        result = ser(clips / "a.wav", "--model", model_dir, "--output", output, "--resume")
        assert result.exit_code == 2
        assert f"--output: {output} is in use by another run: process {os.getpid()}" in result.stderr


def test_a_folder_of_other_answers_or_other_files_is_refused(clips, model_dir, tmp_path):
    arguments = (clips / "a.wav", "--output", tmp_path / "out", "--resume")
    assert ser(*arguments, "--model", model_dir).exit_code == 0
    other = tiny_model(tmp_path / "other", seed=1)
    assert "holds answers with model" in ser(*arguments, "--model", other).stderr
    assert "holds answers with columns" in ser(*arguments, "--model", model_dir, "--timeline").stderr
    assert "holds other files" in ser(clips, "--model", model_dir, "--output", clips, "--resume").stderr
    assert len(folder_rows(tmp_path / "out")) == 1

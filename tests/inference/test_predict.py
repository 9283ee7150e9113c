"""`ser predict`: what it finds, what it writes, and what it refuses."""

import csv
import io
import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from fakes.cli_runs import by_label, found, ser, write
from fakes.tiny import LABELS, noise

from ser.inference.scoring import predict


def test_a_clip_is_scored_in_a_table(classify, clips, model_dir):
    result = ser(clips / "a.wav", "--model", model_dir)
    assert result.exit_code == 0
    head, row = result.stdout.splitlines()
    assert head.split() == ["label", *LABELS, "file"]
    expected = classify(clips / "a.wav")
    values = [f"{by_label(expected)[label]:.3f}" for label in LABELS]
    assert row.split() == [expected[0]["label"], *values, str(clips / "a.wav")]


def test_every_recording_of_a_folder_is_scored_as_alone(classify, clips, model_dir):
    answers = found(ser(clips, "--model", model_dir, "--format", "jsonl"))
    names = [str(clips / name) for name in ("a.wav", "b/b.flac", "b/c.ogg", "d.WAV", "e.mp3")]
    assert list(answers) == names
    for name in names:
        assert by_label(answers[name]) == pytest.approx(by_label(classify(name)), abs=1e-5)


def test_a_folder_is_searched_for_audio_without_hidden_names(clips, model_dir):
    for name in (".hidden.wav", "._a.wav", "notes.txt", "b/list.csv"):
        (clips / name).write_text("no audio")
    (clips / ".git").mkdir()
    write(clips / ".git" / "x.wav", noise(1))
    result = ser(clips, "--model", model_dir, "--format", "jsonl")
    assert result.exit_code == 0
    assert len(found(result)) == 5


def test_globs_lists_and_names_given_twice(clips, model_dir):
    listed = f"{clips / 'a.wav'}\r\n\n{clips / 'b/c.ogg'}\n"
    arguments = (f"{clips}/**/*.flac", "-", clips / "a.wav", "--model", model_dir, "--format", "jsonl")
    assert list(found(ser(*arguments, stdin=listed))) == [str(clips / n) for n in ("b/b.flac", "a.wav", "b/c.ogg")]


def test_a_name_that_looks_like_a_glob_is_a_name_where_there_is_such_a_file(clips, model_dir):
    odd = write(clips / "a[1]*.wav", noise(1))
    assert list(found(ser(odd, "--model", model_dir, "--format", "jsonl"))) == [str(odd)]


@pytest.mark.parametrize("name", ["صدای خشم.wav", "two  words.wav", 'it\'s "one".wav', "b/../up.wav", "comma,.wav"])
@pytest.mark.parametrize("format", ["table", "json", "csv", "rttm"])
def test_odd_names_come_out_as_they_are(clips, model_dir, name, format):
    path = clips / name
    write(path, noise(1))
    result = ser(path, "--model", model_dir, "--format", format)
    assert result.exit_code == 0
    shown = {"json": json.dumps(str(path), ensure_ascii=False)[1:-1], "csv": str(path).replace('"', '""')}
    shown["rttm"] = str(path).replace(" ", "_")
    assert shown.get(format, str(path)) in result.stdout


def test_bytes_that_are_no_utf_8_and_line_breaks_in_names_are_shown(clips, model_dir):
    for name in (b"latin-\xe9.wav", b"line\nbreak.wav"):
        shutil.copy(clips / "a.wav", os.fsdecode(bytes(clips) + b"/" + name))
    for format in ("table", "jsonl", "csv", "rttm"):
        result = ser(f"{clips}/l*.wav", "--model", model_dir, "--format", format)
        assert result.exit_code == 0
        assert "latin-\\udce9.wav" in result.stdout.replace("\\\\", "\\")


def test_json_csv_and_parquet_hold_the_same(classify, clips, model_dir, tmp_path):
    expected = {str(path): classify(path) for path in (clips / "a.wav", clips / "b" / "b.flac")}
    listed = json.loads(ser(*expected, "--model", model_dir, "--format", "json").stdout)
    assert {row["file"]: by_label(row["scores"]) for row in listed} == {
        name: pytest.approx(by_label(scores), abs=1e-5) for name, scores in expected.items()
    }
    rows = list(csv.DictReader(io.StringIO(ser(*expected, "--model", model_dir, "--format", "csv").stdout)))
    ser(*expected, "--model", model_dir, "--format", "parquet", "--output", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert list(rows[0]) == list(table[0]) == ["file", "label", "score", *(f"p_{label}" for label in LABELS)]
    for row, stored, (name, scores) in zip(rows, table, expected.items(), strict=True):
        assert (row["file"], row["label"]) == (stored["file"], stored["label"]) == (name, scores[0]["label"])
        for label, score in by_label(scores).items():
            assert float(row[f"p_{label}"]) == stored[f"p_{label}"] == pytest.approx(score, abs=1e-5)


def test_a_timeline_has_a_row_for_each_segment(classify, clips, model_dir):
    path = clips / "b" / "b.flac"
    expected = classify(path, window_seconds=0.5)
    arguments = (path, "--model", model_dir, "--window-seconds", 0.5)
    assert found(ser(*arguments, "--format", "jsonl")) == {str(path): expected}
    rows = list(csv.DictReader(io.StringIO(ser(*arguments, "--format", "csv").stdout)))
    times = [(segment["start"], segment["end"], segment["label"]) for segment in expected]
    assert [(float(row["start"]), float(row["end"]), row["label"]) for row in rows] == times
    assert len(ser(*arguments).stdout.splitlines()) == len(expected) + 1
    heard = [segment for segment in expected if segment["label"] != "silence"]
    assert ser(*arguments, "--format", "srt").stdout.count(" --> ") == len(heard)
    assert ser(*arguments, "--format", "rttm").stdout.count("SPEAKER") == len(heard)


def test_bad_files_are_reported_at_the_end_and_good_ones_kept(clips, model_dir, tmp_path):
    (clips / "text.wav").write_text("no audio")
    (clips / "empty.wav").touch()
    write(clips / "short.wav", noise(0.02))
    write(clips / "silent.wav", 0 * noise(1))
    result = ser(clips, clips / "gone.wav", "--model", model_dir, "--format", "jsonl")
    assert result.exit_code == 1
    assert len(found(result)) == 5
    lines = result.stderr.splitlines()
    assert lines[0] == "5 of 10 recordings could not be used:"
    for name, words in (
        ("text.wav", "is not audio"),
        ("empty.wav", "is empty (0 bytes)"),
        ("short.wav", "is too short: 320 samples"),
        ("silent.wav", "is silent"),
        ("gone.wav", "No such file"),
    ):
        assert any(line.startswith(f"  {clips / name}: {words}") for line in lines), name


@pytest.mark.parametrize("flags", [(), ("--timeline",), ("--format", "srt")])
def test_one_bad_file_is_one_line_and_leaves_no_output(model_dir, tmp_path, flags):
    (tmp_path / "text.wav").write_text("no audio")
    result = ser(tmp_path / "text.wav", "--model", model_dir, "--output", tmp_path / "out", *flags)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{tmp_path / 'text.wav'}: is not audio")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.wav"]


def test_nothing_is_written_over_unless_asked(clips, model_dir, tmp_path):
    output = tmp_path / "out.csv"
    output.write_text("mine")
    arguments = (clips / "a.wav", "--model", model_dir, "--format", "csv", "--output", output)
    result = ser(*arguments)
    assert result.exit_code == 2
    assert "exists; choose another name, or add --overwrite" in result.stderr
    assert output.read_text() == "mine"
    assert ser(*arguments, "--overwrite").exit_code == 0
    assert output.read_text().startswith("file,label,score,p_anger")


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_run_that_stops_leaves_neither_half_a_file_nor_a_draft(clips, model_dir, tmp_path, monkeypatch, format):
    def stopped(*_, **__):
        yield {"file": "a", "scores": [{"label": label, "score": 0.2} for label in LABELS]}
        raise KeyboardInterrupt

    monkeypatch.setattr("ser.inference.scoring.predict", stopped)
    output = tmp_path / "new" / "out"
    assert ser(clips, "--model", model_dir, "--format", format, "--output", output).exit_code != 0
    assert list(output.parent.iterdir()) == []


REFUSED = {
    "a format": (["--format", "xml"], "--format: 'xml' is not one of table, json"),
    "parquet to a terminal": (["--format", "parquet"], "--format parquet: needs --output"),
    "shards of text": (["--resume", "--output", "new", "--format", "csv"], "csv cannot be used with --resume"),
    "resume to a terminal": (["--resume"], "--resume: needs --output and a folder"),
    "subtitles of many": (["--format", "srt"], "--format srt: takes one recording, 5 were given"),
}


@pytest.mark.parametrize(("flags", "words"), REFUSED.values(), ids=REFUSED)
def test_flags_without_meaning_are_refused_before_a_model_is_loaded(clips, flags, words):
    result = ser(clips, "--model", "nowhere", *flags)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_empty_folder_and_a_glob_of_nothing_are_refused(tmp_path, model_dir):
    assert "holds no audio file (.wav" in ser(tmp_path, "--model", model_dir).stderr
    assert "no file matches" in ser(tmp_path / "*.wav", "--model", model_dir).stderr
    assert "no recording was named" in ser("-", "--model", model_dir, stdin="").stderr


def test_debug_shows_the_traceback(clips):
    assert isinstance(ser(clips, "--model", "./nowhere", "--debug").exception, ValueError)


def test_scores_and_their_order_do_not_depend_on_the_number_of_cores(classify, tmp_path):
    files = [str(tmp_path / f"{number}.wav") for number in range(9)]
    for number, file in enumerate(files[:-1]):
        soundfile.write(file, noise(0.3 + 0.2 * (number % 3), number), 16_000)
    before, by_cores = torch.get_num_threads(), {}
    try:
        for cores in (1, 4):
            torch.set_num_threads(cores)
            by_cores[cores] = list(predict(classify, files))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert [answer["file"] for answer in by_cores[4]] == files
    assert "error" in by_cores[4][-1]
    for one, four in zip(by_cores[1][:-1], by_cores[4][:-1], strict=True):
        scores = [{score["label"]: score["score"] for score in answer["scores"]} for answer in (one, four)]
        assert scores[1] == pytest.approx(scores[0], abs=1e-6)

"""`ser predict`: what it finds, what it writes, what it refuses, and how a stopped run goes on."""

import csv
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tiny import LABELS, noise, tiny_model, tiny_stock_model
from transformers import BertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor
from transformers import pipeline as stock_pipeline
from typer.testing import CliRunner

from ser.cli import app
from ser.use import inference, shards
from ser.use.loading import load_pipeline
from ser_model import SERForAudioClassification, SERPipeline

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classify(model_dir):
    return load_pipeline(str(model_dir), SERForAudioClassification, SERPipeline)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "b").mkdir()
    for name, seconds, seed in (("a.wav", 1, 0), ("b/b.flac", 2.5, 1), ("b/c.ogg", 0.7, 2), ("e.mp3", 1.2, 4)):
        write(folder / name, noise(seconds, seed))
    write(folder / "d.WAV", np.tile(noise(7, 3), 10))
    return folder


@pytest.fixture
def clips(recorded, tmp_path) -> Path:
    """A folder of five clips, one of them 70 s long, below two levels."""
    return shutil.copytree(recorded, tmp_path / "clips")


def write(path: Path, wave, rate_hz: int = 16_000) -> Path:
    with open(path, "wb") as file:
        soundfile.write(file, wave, rate_hz, format=path.suffix[1:].upper())
    return path


def ser(*arguments, stdin: str | None = None):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], input=stdin)


def found(result) -> dict[str, list]:
    """Scores by file name, of a run with `--format jsonl`."""
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    return {answer["file"]: answer.get("scores", answer.get("segments")) for answer in answers}


def by_label(scores) -> dict[str, float]:
    return {score["label"]: score["score"] for score in scores}


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

    monkeypatch.setattr("ser.use.inference.predict", stopped)
    output = tmp_path / "new" / "out"
    assert ser(clips, "--model", model_dir, "--format", format, "--output", output).exit_code != 0
    assert list(output.parent.iterdir()) == []


REFUSED = {
    "a format": (["--format", "xml"], "--format: 'xml' is not one of table, json"),
    "parquet to a terminal": (["--format", "parquet"], "--format parquet: needs --output"),
    "shards of text": (["--resume", "--output", "new", "--format", "csv"], "csv and --resume exclude each other"),
    "resume to a terminal": (["--resume"], "--resume: needs --output and a folder"),
    "subtitles of many": (["--format", "srt"], "--format srt: holds one recording, 5 were given"),
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
    assert "name no recording" in ser("-", "--model", model_dir, stdin="").stderr


def test_debug_shows_the_traceback(clips):
    assert isinstance(ser(clips, "--model", "./nowhere", "--debug").exception, ValueError)


@pytest.mark.parametrize("device", ["cuda:7", "abacus"])
def test_a_device_that_is_not_here_is_refused_in_one_line(clips, model_dir, device):
    result = ser(clips / "a.wav", "--model", model_dir, "--device", device)
    assert (result.exit_code, result.stderr) == (2, f"ser: --device: there is no {device} here; cpu is always there.\n")


def test_a_stock_model_scores_as_in_the_stock_pipeline(clips, tmp_path):
    folder = tiny_stock_model(tmp_path / "stock")
    stock = stock_pipeline("audio-classification", model=str(folder))
    names = [str(clips / "a.wav"), str(clips / "b" / "b.flac")]
    answers = found(ser(*names, "--model", folder, "--format", "jsonl"))
    for name in names:
        wave, _ = soundfile.read(name, dtype="float32")
        assert by_label(answers[name]) == pytest.approx(by_label(stock(wave)), abs=1e-5)
    assert ser(clips / "d.WAV", "--model", folder, "--timeline").exit_code == 0


def test_code_beside_the_weights_is_not_run(clips, model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    (folder / "ser_model.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
    assert ser(clips / "a.wav", "--model", folder).exit_code == 0
    assert not (tmp_path / "was_run").exists()


def edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def not_a_model(folder: Path) -> None:
    shutil.rmtree(folder)
    BertConfig(architectures=["BertForSequenceClassification"]).save_pretrained(folder)


def lose_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["projector.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGED = {
    "another task": (not_a_model, "is not an SER model: .* model_type 'bert'"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "is not an SER model: .* no config.json"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json is not a JSON object"),
    "unknown type": (
        lambda folder: edit_json(folder / "config.json", model_type="x"),
        "is not an SER model: .* model_type 'x'",
    ),
    "bad value": (lambda folder: edit_json(folder / "config.json", pooling="max"), "pooling: 'max' is not one of"),
    "another width": (
        lambda folder: edit_json(folder / "config.json", classifier_proj_size=8),
        "the weights do not fit config.json",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded: "),
    "a weight lost": (lose_a_weight, "is damaged: 1 weights are missing or left over, such as projector.weight"),
    "no preprocessor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "cannot be loaded: "),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_not_a_whole_ser_model_is_refused_in_one_line(clips, model_dir, tmp_path, damage, words):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    damage(folder)
    result = ser(clips / "a.wav", "--model", folder)
    assert result.exit_code == 2
    assert re.search(words, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("./nowhere", "there is no folder ./nowhere"),
        ("a b!", "neither a folder nor the name of a repository"),
        ("user/not-here", "neither a folder nor downloaded yet"),
    ],
)
def test_a_model_that_is_nowhere_is_refused_in_one_line(clips, model, words):
    result = ser(clips / "a.wav", "--model", model)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers every request as the Hub answers one kind of trouble."""

    def do_HEAD(self):
        status, code = {"/private": (401, "RepoNotFound"), "/gated": (403, "GatedRepo")}.get(
            "/" + self.path.split("/")[2], (401, None)
        )
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        else:
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("user/private", "there is no user/private on http://127.0.0.1"),
        ("user/gated", "asks for its terms to be accepted"),
        ("user/any", "refuses the token (401)"),
    ],
)
def test_a_wrong_token_is_told_in_one_line(tmp_path, repository, words):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path),
            "HF_TOKEN": "hf_wrong",
        }
        command = [sys.executable, "-c", "from ser.cli import app; app()", "predict", "a.wav", "--model", repository]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        server.shutdown()
    assert run.returncode == 2
    assert words in run.stderr
    assert run.stderr.count("\n") == 1
    assert "hf_wrong" not in run.stderr


def test_what_is_refused_is_refused_without_waiting_for_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from ser.cli import app\n"
        "CliRunner().invoke(app, ['predict', 'a.wav', '--model', './nowhere'])\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pandas') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


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
    predict = inference.predict

    def stopped(pipe, files, *_):
        for number, answer in enumerate(predict(pipe, files)):
            if number == 3:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(inference, "predict", stopped)
    assert ser(*arguments).exit_code != 0
    assert len(folder_rows(output)) == 2
    monkeypatch.setattr(inference, "predict", lambda pipe, files, *_: predict(pipe, scored.extend(files) or scored))
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
    assert "--resume: is needed where several processes" in ser(clips, "--model", model_dir).stderr


def test_a_folder_of_other_answers_or_other_files_is_refused(clips, model_dir, tmp_path):
    arguments = (clips / "a.wav", "--output", tmp_path / "out", "--resume")
    assert ser(*arguments, "--model", model_dir).exit_code == 0
    other = tiny_model(tmp_path / "other", seed=1)
    assert "holds answers with model" in ser(*arguments, "--model", other).stderr
    assert "holds answers with columns" in ser(*arguments, "--model", model_dir, "--timeline").stderr
    assert "holds other files" in ser(clips, "--model", model_dir, "--output", clips, "--resume").stderr
    assert len(folder_rows(tmp_path / "out")) == 1


@pytest.mark.slow
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


def test_the_feature_extractors_rate_is_the_one_used(clips, tmp_path):
    """A model of another rate than 16 kHz is fed at its own."""
    folder = tiny_stock_model(tmp_path / "stock")
    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(folder)
    slow = load_pipeline(str(folder), SERForAudioClassification, SERPipeline)
    assert len(slow.read_short(clips / "a.wav")) == 8_000
    assert isinstance(slow.model, HubertForSequenceClassification)

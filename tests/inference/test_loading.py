"""Models that `ser predict` takes and those it refuses: in one line, and without running what lies beside them."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import soundfile
from fakes.cli_runs import by_label, found, record, ser
from fakes.tiny import tiny_model, tiny_stock_model
from transformers import BertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor
from transformers import pipeline as stock_pipeline

from ser.inference.loading import load_pipeline

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def clips(recorded, tmp_path) -> Path:
    return shutil.copytree(recorded, tmp_path / "clips")


@pytest.mark.parametrize("device", ["cuda:7", "abacus"])
def test_a_device_that_is_not_here_is_refused_in_one_line(clips, model_dir, device):
    result = ser(clips / "a.wav", "--model", model_dir, "--device", device)
    assert (result.exit_code, result.stderr) == (
        2,
        f"ser: --device: this machine has no {device}; use cpu, which every machine has.\n",
    )


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


def test_the_feature_extractors_rate_is_the_one_used(clips, tmp_path):
    """A model of another rate than 16 kHz is fed at its own."""
    folder = tiny_stock_model(tmp_path / "stock")
    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(folder)
    slow = load_pipeline(str(folder))
    assert len(slow.read_short(clips / "a.wav")) == 8_000
    assert isinstance(slow.model, HubertForSequenceClassification)

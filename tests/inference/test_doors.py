"""What comes in from outside and goes out to other programs: damaged models, odd names and labels, URLs."""

import csv
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from fakes.cli_runs import ser
from fakes.tiny import noise, tiny_model
from safetensors.torch import load_file, save_file

from ser.inference.download import local_copy
from ser.inference.output_formats import text_of
from ser.inference.predict import Request
from ser.inference.scoring import predict


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A model whose classifier holds NaN."""
    folder = tiny_model(tmp_path_factory.mktemp("damaged"))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    import soundfile

    path = tmp_path_factory.mktemp("clip") / "a.wav"
    soundfile.write(path, noise(1.0), 16_000)
    return path


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv", "rttm", "srt"])
def test_scores_that_are_not_finite_are_an_error_in_every_format(damaged, clip, format):
    result = ser(clip, "--model", damaged, "--format", format)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{clip}: ")
    assert "Traceback" not in result.stderr


def test_one_bad_recording_does_not_take_its_batch_along():
    class Pipe:
        feature_extractor = type("", (), {"sampling_rate": 16_000})
        device = torch.device("cpu")
        model = type("", (), {"config": type("", (), {"model_type": "ser"})})

        def read_short(self, source):
            return noise(1.0, int(source))

        def __call__(self, waves, batch_size):
            bad = noise(1.0, 1)
            return [[{"label": "x", "score": float("nan") if (wave["array"] == bad).all() else 0.5}] for wave in waves]

    answers = list(predict(Pipe(), ["0", "1", "2"], batch_seconds=60))
    assert ["error" in answer for answer in answers] == [False, True, False]


def test_json_never_holds_nan():
    with pytest.raises(ValueError, match="JSON compliant"):
        list(text_of([{"file": "a", "scores": [{"label": "x", "score": float("nan")}]}], "json", []))


@pytest.mark.parametrize("name", ["=1+1.wav", "+a.wav", "-a.wav", "@a.wav", "\ta.wav", "\ra.wav"])
def test_no_text_in_csv_is_a_formula_and_numbers_stay(name):
    answer = {"file": name, "scores": [{"label": "=x", "score": -0.5}]}
    text = "".join(text_of([answer], "csv", ["file", "label", "score"]))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row == {"file": f"'{name}", "label": "'=x", "score": "-0.5"}


def test_labels_are_neither_markup_in_subtitles_nor_two_fields_in_rttm():
    label = "<script>very & angry"
    segment = {"start": 0.0, "end": 1.0, "label": label, "score": 0.5, "scores": [{"label": label, "score": 0.5}]}
    answer = {"file": "a b.wav", "segments": [segment]}
    assert "&lt;script&gt;very &amp; angry 50 %" in "".join(text_of([answer], "srt", []))
    assert "".join(text_of([answer], "rttm", [])).split()[7] == "<script>very_&_angry"


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/to"):
                self.send_response(302)
                self.send_header("Location", {"/to-file": "file:///etc/passwd", "/to-ftp": "ftp://x/a"}[self.path])
                self.end_headers()
                return
            self.send_response(200)
            if self.path == "/sized":
                self.send_header("Content-Length", "2000000")
            self.end_headers()
            for _ in range(20):
                self.wfile.write(bytes(100_000))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("path", ["/sized", "/unsized"])
def test_a_download_is_bounded_whether_or_not_the_server_tells_its_size(server, path):
    with pytest.raises(ValueError, match=r"more than 1 MB; raise --max-megabytes"), local_copy(server + path, 1):
        pass
    with local_copy(server + path, 3) as file, open(file, "rb") as data:
        assert len(data.read()) == 2_000_000


@pytest.mark.parametrize("path", ["/to-file", "/to-ftp"])
def test_no_redirect_leaves_the_web(server, path):
    with pytest.raises(ValueError, match=r"not http or https|not allowed"), local_copy(server + path):
        pass


def test_a_recording_that_cannot_be_read_is_named_by_its_url(server):
    with pytest.raises(ValueError, match=r"^http://.*: no audio$"), local_copy(f"{server}/sized") as file:
        raise ValueError(f"{file}: no audio")


def test_the_bound_must_be_a_size():
    with pytest.raises(ValueError, match="--max-megabytes: 0"):
        Request(["a"], max_megabytes=0).check()


@pytest.mark.parametrize("seconds", [0.0, -3.0, float("nan")])
def test_a_batch_must_have_a_length(seconds):
    with pytest.raises(ValueError, match=f"--batch-seconds: {seconds} is not above 0"):
        Request(["a"], batch_seconds=seconds).check()


def test_without_a_model_only_the_missing_flag_is_named(clip):
    result = ser(clip)
    assert result.exit_code == 2
    assert (
        result.stderr
        == "ser: --model: is missing; give a run's folder, a repository on the Hub, or a file with --onnx.\n"
    )

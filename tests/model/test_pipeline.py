"""What `pipeline("audio-classification")` returns for a model of ours: any source, any batch, errors in words."""

import functools
import http.server
import io
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile
import torch
from fakes.tiny import LABELS, names, noise, tiny_model
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from ser_model import SERForAudioClassification, read_wave


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def classify(model_dir):
    return pipeline("audio-classification", model=str(model_dir), trust_remote_code=True)


@pytest.fixture(scope="module")
def wav(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    soundfile.write(path, noise(1.5), 16_000, subtype="PCM_16")
    return path


def by_label(scores) -> dict[str, float]:
    return {score["label"]: score["score"] for score in scores}


def close(one, other, tolerance=1e-5) -> bool:
    one, other = by_label(one), by_label(other)
    return one.keys() == other.keys() and all(abs(one[label] - other[label]) <= tolerance for label in one)


def file_bytes(wave, rate_hz=16_000, format="WAV", **options) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=format, **options)
    return buffer.getvalue()


@pytest.mark.heavy
def test_another_process_in_another_folder_gets_our_pipeline_and_the_models_scores(model_dir, tmp_path):
    np.save(tmp_path / "wave.npy", noise(1.5))
    code = (
        "import json, numpy, transformers\n"
        f"classify = transformers.pipeline('audio-classification', model={str(model_dir)!r}, trust_remote_code=True)\n"
        "print(json.dumps([type(classify).__name__, classify(numpy.load('wave.npy'))]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    name, scores = json.loads(run.stdout)
    wave = torch.from_numpy(noise(1.5))[None]
    model = SERForAudioClassification.from_pretrained(model_dir).eval()
    with torch.no_grad():
        expected = model((wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()).logits[0].softmax(-1)
    assert name == "SERPipeline"
    assert close(scores, [{"label": label, "score": float(p)} for label, p in zip(LABELS, expected, strict=True)])
    assert "not supported" not in run.stderr


def test_the_model_is_not_said_to_be_unsupported(model_dir, caplog):
    logging.getLogger("transformers").addHandler(caplog.handler)
    pipeline("audio-classification", model=str(model_dir), trust_remote_code=True)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_label_is_returned_best_first_and_top_k_cuts(classify, wav):
    scores = [score["score"] for score in classify(wav)]
    assert len(scores) == len(LABELS)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert classify(wav, top_k=2) == classify(wav)[:2]
    assert len(classify(wav, top_k=99)) == len(LABELS)


def test_logits_are_returned_on_request(classify, wav):
    logits = by_label(classify(wav, function_to_apply="none"))
    exponents = {label: np.exp(logit) for label, logit in logits.items()}
    expected = {label: value / sum(exponents.values()) for label, value in exponents.items()}
    assert by_label(classify(wav)) == pytest.approx(expected)


@pytest.mark.parametrize("format", ["FLAC", "AIFF", "W64"])
def test_lossless_files_score_as_the_wav(classify, wav, format):
    assert close(classify(file_bytes(read_wave(wav), format=format, subtype="PCM_16")), classify(wav), 1e-9)


@pytest.mark.parametrize(("format", "options"), [("OGG", {}), ("MP3", {}), ("OGG", {"subtype": "OPUS"})])
def test_lossy_files_are_read_without_ffmpeg(classify, monkeypatch, wav, format, options):
    monkeypatch.setenv("PATH", "")
    data = file_bytes(noise(1.5, rate_hz=48_000), 48_000, format, **options)
    assert close(classify(data), classify(wav), 0.2)


def test_all_the_ways_to_give_one_clip_give_one_answer(classify, wav):
    wave, expected = read_wave(wav), classify(str(wav))
    sources = {
        "path": wav,
        "bytes": wav.read_bytes(),
        "array": wave,
        "float64": wave.astype(np.float64),
        "int16": np.rint(wave * 32768).astype(np.int16),
        "tensor": torch.from_numpy(wave),
        "channels first": np.stack([wave, wave]),
        "channels last": np.stack([wave] * 8, axis=1),
        "one channel": torch.from_numpy(wave)[None],
        "dict": {"array": wave, "sampling_rate": 16_000, "path": None},
        "raw": {"raw": wave.tolist(), "sampling_rate": 16_000},
        "row with bytes": {"bytes": wav.read_bytes(), "path": "elsewhere.wav"},
        "row with a path": {"bytes": None, "path": str(wav)},
        "row of a dataset": {"id": "a", "audio": {"bytes": wav.read_bytes(), "path": None}},
    }
    for name, source in sources.items():
        assert close(classify(source), expected, 1e-6), name


def test_a_row_that_torchcodec_decodes_is_read(classify, wav):
    class Decoder:
        def get_all_samples(self):
            wave = torch.from_numpy(read_wave(wav))
            return type("Samples", (), {"data": torch.stack([wave, wave]), "sample_rate": 16_000})

    assert close(classify(Decoder()), classify(wav))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 192_000])
def test_any_sampling_rate_scores_alike(classify, wav, rate_hz):
    wave = noise(1.5, rate_hz=rate_hz)
    expected, tolerance = classify(wav), 0.2 if rate_hz < 16_000 else 0.02
    assert close(classify({"array": wave, "sampling_rate": rate_hz}), expected, tolerance)
    assert close(classify(file_bytes(np.stack([wave, wave], 1), rate_hz)), expected, tolerance)


def test_a_web_address_is_downloaded(classify, wav):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=wav.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert classify(f"{address}/clip.wav") == classify(wav)
        with pytest.raises(ValueError, match=r"missing\.wav: cannot be downloaded .*404"):
            classify(f"{address}/missing.wav")
        server.shutdown()


def test_lists_tuples_generators_and_columns_give_an_answer_for_each(classify, wav):
    waves = [noise(1, seed) for seed in range(3)]
    expected = [classify(wave) for wave in waves]
    rows = [{"bytes": file_bytes(wave, subtype="FLOAT"), "path": None} for wave in waves]
    dataset = datasets.Dataset.from_dict({"audio": rows}).cast_column("audio", datasets.Audio(decode=False))
    sources = {
        "list": waves,
        "tuple": tuple(waves),
        "column": dataset["audio"],
        "dataset": dataset,
        "KeyDataset": KeyDataset(dataset, "audio"),
        "generator": (wave for wave in waves),
        "iterator": iter(waves),
    }
    for name, source in sources.items():
        answers = list(classify(source, batch_size=2))
        assert len(answers) == 3, name
        assert all(close(one, other, 1e-4) for one, other in zip(answers, expected, strict=True)), name
    assert classify([]) == []
    assert isinstance(classify(dataset["audio"]), list)


def test_a_generator_is_read_no_further_than_the_batch_needs(classify):
    drawn = []
    answers = iter(classify((drawn.append(seed) or noise(0.5, seed) for seed in range(9)), batch_size=2))
    next(answers)
    assert len(drawn) <= 3


@pytest.mark.parametrize("batch_size", [2, 5, 16])
def test_a_clip_scores_the_same_in_any_batch(classify, emodb_dir, batch_size):
    clips = sorted((emodb_dir / "wav").glob("*.wav"))[:90:9]
    alone = [classify(clip) for clip in clips]
    together = classify([str(clip) for clip in clips], batch_size=batch_size)
    assert len({scores[0]["score"] for scores in alone}) > 5
    assert all(close(one, other) for one, other in zip(alone, together, strict=True))


def test_evaluate_accepts_the_pipeline(classify, monkeypatch):
    import transformers
    from evaluate import evaluator

    # evaluate 0.4.6 asks for a class that transformers 5 no longer has, whatever it is given.
    monkeypatch.setattr(transformers, "TFPreTrainedModel", transformers.PreTrainedModel, raising=False)

    from ser.evaluation.trainer_metrics import Accuracy

    rows = [{"bytes": file_bytes(noise(1, seed)), "path": None} for seed in range(4)]
    truth = [LABELS.index(classify(row)[0]["label"]) for row in rows]
    data = datasets.Dataset.from_dict({"audio": rows, "label": truth})
    result = evaluator("audio-classification").compute(
        classify,
        data,
        metric=Accuracy(),
        input_column="audio",
        label_mapping={label: index for index, label in enumerate(LABELS)},
    )
    assert result["accuracy"] == 1.0


def test_a_regression_returns_each_value_by_name_in_the_models_order(tmp_path):
    dimensions = ("valence", "arousal", "dominance", "interest", "trust")
    folder = tiny_model(tmp_path, problem_type="regression", **names(dimensions))
    classify = pipeline("audio-classification", model=str(folder), trust_remote_code=True)
    values = classify(noise(1))
    assert tuple(value["label"] for value in values) == dimensions
    assert by_label(values) == pytest.approx(by_label(classify(noise(1), function_to_apply="none")))
    segments = classify(noise(6), timeline=True)
    assert [segment["start"] for segment in segments] == [0, 1, 2, 3, 4, 5]
    assert all(segment["label"] is None and len(segment["scores"]) == 5 for segment in segments)


def test_a_model_in_bfloat16_scores_alike(model_dir, classify, wav):
    half = pipeline("audio-classification", model=str(model_dir), trust_remote_code=True, dtype=torch.bfloat16)
    assert close(half(wav), classify(wav), 0.2)


BAD = {
    "a text": (b"this is not audio", "<bytes>: is not audio"),
    "no bytes": (b"", "<bytes>: is empty"),
    "20 ms": (noise(0.02), "array: is too short: 320 samples at 16000 Hz .20 ms, one frame needs 25 ms"),
    "20 ms of a file": ({"bytes": file_bytes(noise(0.02)), "path": "a b.wav"}, "a b.wav: is too short"),
    "nothing": (np.zeros(0), "array: holds no sample"),
    "silence": (np.zeros(16_000), "array: is silent: every sample is 0"),
    "a constant": (np.full(16_000, 0.25), "array: is silent: every sample is 0.25"),
    "silent minutes": (np.zeros(16_000 * 70, np.float32), "array: is silent throughout"),
    "NaN": (np.append(noise(1), np.nan), "array: holds NaN or infinite samples"),
    "infinity": (np.append(noise(1), np.inf), "array: holds NaN or infinite samples"),
    "NaN in a file": (file_bytes(np.append(noise(1), np.nan), subtype="FLOAT"), "<bytes>: holds NaN"),
    "three axes": (np.zeros((2, 2, 800)), r"array: has shape \(2, 2, 800\) of float64"),
    "text in an array": (np.array(["a"] * 800), "array: has shape"),
    "a dict without rate": ({"array": noise(1)}, "needs array .or raw. and sampling_rate, or bytes or path; got array"),
    "an empty dict": ({}, "got nothing"),
}


@pytest.mark.parametrize(("source", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_classified_is_refused_in_words(classify, source, words):
    with pytest.raises(ValueError, match=f"^.*{words}") as error:
        classify(source)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(classify):
    with pytest.raises(FileNotFoundError, match=r"no such.wav"):
        classify("no such.wav")


@pytest.mark.parametrize("source", [3.5, None, [0.1, 0.2]])
def test_what_is_no_recording_at_all_is_refused(classify, source):
    with pytest.raises(TypeError, match="A recording is a path, a URL, bytes, an array or a dict"):
        classify(source)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"top_k": 0}, "top_k: 0"),
        ({"function_to_apply": "relu"}, "function_to_apply: 'relu'"),
        ({"window_seconds": 0}, "window_seconds: 0"),
        ({"window_seconds": 2, "hop_seconds": 3}, "hop_seconds: 3 is not between 0.01 and window_seconds, 2"),
        ({"max_seconds": -1}, "max_seconds: -1"),
    ],
)
def test_arguments_without_meaning_are_refused(classify, arguments, words):
    with pytest.raises(ValueError, match=words):
        classify(noise(1), **arguments)


def test_a_misspelt_argument_is_refused(classify):
    with pytest.raises(TypeError, match="window_second"):
        classify(noise(1), window_second=2)


def test_odd_names_are_only_names(classify, wav, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("صدای خشم.wav", "two words.wav", 'it\'s "quoted".wav', "sub/../up.wav", "-.wav", "a*?[b].wav"):
        path = tmp_path / name
        path.write_bytes(wav.read_bytes())
        assert classify(str(path)) == classify(wav)

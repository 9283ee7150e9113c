"""`ser export` and `ser predict --onnx`: the file answers as its model, says what it is, and needs no torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
import torch
from fakes.tiny import LABELS, feature_extractor, names, noise, tiny_stock_model
from transformers import Data2VecAudioConfig, HubertConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig
from typer.testing import CliRunner

from ser.cli import app
from ser.data.audio import encode_wav
from ser.inference import onnx_export
from ser.inference.onnx_check import Comparison, compare_with_run
from ser.inference.onnx_features import WhisperLogits
from ser.inference.onnx_model import OnnxClassifier, normalized
from ser_model import SERConfig, SERForAudioClassification, min_samples, new_feature_extractor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Three convolutions with HuBERT's hop: tracing takes time for each layer.
SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 3,
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 8),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WHISPER = {"d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
FAMILIES = {
    "hubert, group norm": (HubertConfig(**SMALL), {"pooling": "mean"}),
    "wav2vec2, layer norm": (Wav2Vec2Config(**SMALL, **LAYER), {"pooling": "mean_std", "layer_mix": "weighted"}),
    "wavlm": (WavLMConfig(**SMALL), {"pooling": "attentive_stats", "layer_mix": 1}),
    "data2vec": (
        Data2VecAudioConfig(**{**SMALL, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}),
        {"pooling": "attentive_stats", "layer_mix": "weighted"},
    ),
    "whisper, full window": (WhisperConfig(**WHISPER, max_source_positions=350), {"pooling": "attentive_stats"}),
    "whisper, cut": (
        WhisperConfig(**WHISPER, max_source_positions=350),
        {"pooling": "mean_std", "layer_mix": "weighted", "whisper_full_window": False},
    ),
}


def build(backbone, **config) -> SERForAudioClassification:
    torch.manual_seed(0)
    model = SERForAudioClassification(SERConfig(backbone_config=backbone, **{**names(), **config})).eval()
    for parameter in model.parameters():  # biases and norms away from 0 and 1, as training leaves them
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    balance(model)
    return model


@torch.no_grad()
def balance(model) -> None:
    """Makes clips' logits spread around zero, so that labels differ and no probability is 0 or 1.

    Not more than 20 times: what is amplified further is the rounding of float32.
    """
    logits = torch.cat([logits_of(model, [clip]) for clip in waves(0.3, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0)])
    scale = (1 / logits.std(dim=0)).clamp(max=20).float()
    model.classifier.weight.mul_(scale[:, None])
    model.classifier.bias.sub_(logits.mean(dim=0)).mul_(scale)


def waves(*seconds: float) -> list[np.ndarray]:
    return [noise(second, seed) for seed, second in enumerate(seconds)]


@torch.no_grad()
def logits_of(model, clips: list[np.ndarray]) -> torch.Tensor:
    return model(**features_of(new_feature_extractor(model.config.backbone_config), clips)).logits.double()


def features_of(extractor, clips: list[np.ndarray]) -> dict[str, torch.Tensor]:
    padding = "max_length" if hasattr(extractor, "chunk_length") else True
    options = {"sampling_rate": 16_000, "return_attention_mask": True, "return_tensors": "pt"}
    return dict(extractor(clips, padding=padding, **options))


def of_model(model, clips: list[np.ndarray]) -> np.ndarray:
    return logits_of(model, clips).softmax(-1).numpy()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run's folder with model.onnx in it."""
    folder = tmp_path_factory.mktemp("run")
    model = build(HubertConfig(**SMALL), pooling="mean_std", calibration_temperature=1.7)
    model.save_pretrained(folder)
    feature_extractor().save_pretrained(folder)
    result = ser("export", folder)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def model(run):
    return SERForAudioClassification.from_pretrained(run).eval()


@pytest.fixture(scope="module")
def int8(run) -> Path:
    about = json.loads(OnnxClassifier(run / "model.onnx").session.get_modelmeta().custom_metadata_map["ser"])
    return onnx_export.quantize(run / "model.onnx", {**about, "int8": True})


def ser(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.heavy
@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_scores_as_its_model_at_any_length_and_batch(family, tmp_path):
    backbone, config = FAMILIES[family]
    model = build(backbone, **config)
    extractor = new_feature_extractor(backbone)
    path = onnx_export.export_onnx(model, extractor, tmp_path / "m.onnx", min_samples(backbone))
    classify = OnnxClassifier(path, threads=1)
    model = build(backbone, **config)  # not the one that export prepared
    shortest = classify.min_samples / 16_000
    for seconds in ((shortest,), (6.0,), (0.1, 6.0, 1.3), (shortest, 0.1, 0.5, 1.0, 2.0, 3.3, 4.1)):
        clips = waves(*seconds)
        expected = of_model(model, clips)
        assert np.abs(classify.probabilities(clips) - expected).max() < 1e-5
    assert expected.std(axis=0).max() > 1e-3  # clips differ, so that a wrong one would be seen


@pytest.fixture(scope="module")
def whisper_run(tmp_path_factory) -> Path:
    """A run on an encoder of Whisper that hears 2 s, cut to the clip, with model.onnx in its folder."""
    folder = tmp_path_factory.mktemp("whisper")
    backbone = WhisperConfig(**{**WHISPER, "encoder_layers": 1}, max_source_positions=100)
    build(backbone, pooling="mean_std", whisper_full_window=False).save_pretrained(folder)
    new_feature_extractor(backbone).save_pretrained(folder)
    result = ser("export", folder)
    assert result.exit_code == 0, result.stderr
    return folder


def test_whispers_features_are_in_the_file_which_scores_waves_as_the_model(whisper_run):
    classify, model = OnnxClassifier(whisper_run / "model.onnx"), SERForAudioClassification.from_pretrained(whisper_run)
    clips = [*waves(0.025, 0.7, 1.3, 2.0), waves(2.0)[0][:31_970]]
    expected = of_model(model.eval(), clips)
    assert expected.std(axis=0).max() > 1e-3
    for batch in ([0], [3], [4], [0, 1], [2, 0, 1], range(5)):
        found = classify.probabilities([clips[row] for row in batch])
        assert np.abs(found - expected[list(batch)]).max() < 1e-5
    values, mask = np.full((1, 30_000), 3.0, np.float32), np.zeros((1, 30_000), np.int64)
    values[0, : len(clips[1])], mask[0, : len(clips[1])] = clips[1], 1
    np.testing.assert_allclose(classify.run(values, mask), classify.logits(clips[1:2]), atol=2e-5)


def test_int8_leaves_whispers_features_and_convolutions_in_float(whisper_run):
    about = json.loads(OnnxClassifier(whisper_run / "model.onnx").session.get_modelmeta().custom_metadata_map["ser"])
    path = onnx_export.quantize(whisper_run / "model.onnx", {**about, "int8": True})
    products = [node.op_type for node in onnx.load(path).graph.node]
    assert products.count("Conv") == 4  # Fourier transform, mel filters, and the two of the encoder
    assert "ConvInteger" not in products
    assert "MatMulInteger" in products
    classify, clips = OnnxClassifier(path), waves(0.025, 0.7, 2.0)
    together = classify.probabilities(clips)
    np.testing.assert_array_equal(together, [classify.probabilities([clip])[0] for clip in clips])
    model = SERForAudioClassification.from_pretrained(whisper_run).eval()
    assert 0 < np.abs(together - of_model(model, clips)).max() < 0.1


def test_what_is_longer_than_whispers_window_is_refused_or_cut_as_the_pipeline_does(whisper_run, tmp_path):
    with pytest.raises(ValueError, match=r"waves\[1\]: has 32001 samples; this model hears 32000 at most \(2 s\)"):
        OnnxClassifier(whisper_run / "model.onnx").logits([noise(1.0), np.ones(32_001, np.float32)])
    soundfile.write(tmp_path / "long.wav", noise(5.3), 16_000)
    soundfile.write(tmp_path / "short.wav", noise(1.2), 16_000)
    answers = []
    for source in (("--model", whisper_run), ("--onnx", whisper_run / "model.onnx")):
        result = ser("predict", tmp_path, *source, "--format", "jsonl")
        assert result.exit_code == 0, result.stderr
        answers.append([json.loads(line)["scores"] for line in result.stdout.splitlines()])
    for expected, found in zip(*answers, strict=True):
        assert [score["label"] for score in found] == [score["label"] for score in expected]
        np.testing.assert_allclose([s["score"] for s in found], [s["score"] for s in expected], atol=1e-5)


def graph_of_whisper(**config) -> tuple[WhisperLogits, object]:
    backbone = WhisperConfig(**{**WHISPER, "encoder_layers": 1}, max_source_positions=500)
    extractor = new_feature_extractor(backbone)
    return WhisperLogits(SERForAudioClassification(SERConfig(backbone_config=backbone, **config)), extractor), extractor


@pytest.mark.parametrize("full_window", [True, False])
def test_whispers_features_in_the_graph_are_those_of_its_extractor(full_window):
    graph, extractor = graph_of_whisper(whisper_full_window=full_window)
    click = np.zeros(16_000, np.float32)
    click[-1] = 1.0  # its loudest frame is the one behind the last frame of the clip
    speech = noise(10) + 1e-3 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    for wave in (click, *(speech[:size] for size in (400, 16_000, 16_159, 16_161, 159_660, 159_970, 160_000))):
        expected = features_of(extractor, [wave])["input_features"]
        found = graph.log_mel(graph.padded(torch.from_numpy(wave)[None]))
        frames = -(-len(wave) // 320)
        assert found.shape[-1] == (1000 if full_window else min(2 * frames + 2, 1000))
        torch.testing.assert_close(found, expected[..., : found.shape[-1]], atol=2e-5, rtol=0)


def test_an_extractor_that_adds_noise_is_refused():
    graph, extractor = graph_of_whisper()
    extractor.dither = 1e-4
    with pytest.raises(ValueError, match=r"adds noise \(dither 0.0001\).*set dither to 0"):
        WhisperLogits(graph.model, extractor)


@pytest.mark.slow
def test_what_lies_in_the_padding_does_not_matter(run):
    classify, (wave, longer) = OnnxClassifier(run / "model.onnx"), waves(0.8, 2.1)
    values, mask = np.full((2, 40_000), 3.0, np.float32), np.zeros((2, 40_000), np.int64)
    for row, clip in enumerate((wave, longer)):
        values[row, : len(clip)], mask[row, : len(clip)] = normalized(clip), 1
    alone = [classify.logits([clip])[0] for clip in (wave, longer)]
    np.testing.assert_allclose(classify.run(values, mask), alone, atol=2e-5)


def test_waves_are_normalised_as_in_training():
    for wave in (*waves(0.3, 2.0), 0.2 + 1e-4 * noise(1.0), np.zeros(800, np.float32)):
        expected = feature_extractor()(wave, sampling_rate=16_000, return_tensors="np")["input_values"][0]
        np.testing.assert_array_equal(normalized(wave), expected)


def test_the_file_says_what_its_scores_are(run, int8):
    for path in (run / "model.onnx", int8):
        classify = OnnxClassifier(path)
        assert classify.labels == list(LABELS)
        assert (classify.sampling_rate_hz, classify.min_samples) == (16_000, 165)
        assert (classify.do_normalize, classify.problem_type) == (True, None)
        assert classify.calibration_temperature == 1.7
        assert classify.is_int8 == (path == int8)


def test_the_file_names_no_folder_of_this_machine(run):
    assert str(run.parent).encode() not in (run / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in (run / "model.onnx").read_bytes()


def test_a_wave_too_short_is_refused_by_its_place(run):
    with pytest.raises(ValueError, match=r"waves\[1\].*\(164,\).*165 samples"):
        OnnxClassifier(run / "model.onnx").logits([noise(1.0), np.ones(164, np.float32)])


def test_scoring_needs_neither_torch_nor_transformers(run):
    code = (
        "import sys, numpy as np\n"
        "from ser.inference.onnx_model import OnnxClassifier\n"
        f"scores = OnnxClassifier({str(run / 'model.onnx')!r}).probabilities([np.ones(9000), np.ones(500)])\n"
        "assert abs(scores.sum() - 2) < 1e-6\n"
        "print({'torch', 'transformers', 'onnx'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_predict_scores_with_the_file_as_with_the_model(run, tmp_path):
    for place, wave in enumerate((*waves(0.6, 2.5), np.tile(noise(5), 13))):
        soundfile.write(tmp_path / f"{place}.wav", wave, 16_000)
    answers = []
    for source in (("--model", run), ("--onnx", run / "model.onnx")):
        result = ser("predict", tmp_path, *source, "--format", "jsonl")
        assert result.exit_code == 0, result.stderr
        rows = [json.loads(line)["scores"] for line in result.stdout.splitlines()]
        answers.append([{score["label"]: score["score"] for score in row} for row in rows])
    assert len(answers[0]) == 3
    for expected, found in zip(*answers, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    timeline = ser("predict", tmp_path / "2.wav", "--onnx", run / "model.onnx", "--timeline")
    assert timeline.exit_code == 0, timeline.stderr


def test_int8_is_smaller_and_close_and_exact_in_any_batch(run, int8, model):
    assert int8.stat().st_size < (run / "model.onnx").stat().st_size
    assert {node.op_type for node in onnx.load(int8).graph.node} >= {"MatMulInteger", "Conv"}
    classify, clips = OnnxClassifier(int8), waves(0.7, 1.5, 3.0)
    together = classify.probabilities(clips)
    np.testing.assert_array_equal(together, [classify.probabilities([clip])[0] for clip in clips])
    difference = np.abs(together - of_model(model, clips)).max()
    assert 0 < difference < 0.1


def test_check_compares_the_file_with_the_run(run, int8, model, tmp_path):
    clips = waves(*np.linspace(0.3, 2.0, 12))
    waves_16_bit = [np.round(clip * 32768) / 32768 for clip in clips]
    probabilities = np.concatenate([of_model(model, [clip.astype(np.float32)]) for clip in waves_16_bit])
    truth = probabilities.argmax(axis=1)
    assert len(set(truth)) > 1
    stored = {str(row): encode_wav(clip) for row, clip in enumerate(waves_16_bit)}
    write_predictions(tmp_path, probabilities, truth)
    found = compare_with_run(run / "model.onnx", str(tmp_path), stored.__getitem__)
    assert (found.clips, found.same_label, found.points) == (12, 1.0, 0.0)
    assert found.largest_difference < 1e-5
    assert found.is_good
    assert "12 clips" in found.words()
    write_predictions(tmp_path, probabilities, np.roll(truth, 1))
    found = compare_with_run(int8, str(tmp_path), stored.__getitem__)
    assert found.uar_model < 1
    assert found.largest_difference > 1e-5
    del stored["3"]
    with pytest.raises(ValueError, match=r"clip '3' of the run is not in the corpus.*--data_dir"):
        compare_with_run(int8, str(tmp_path), stored.__getitem__)


def test_more_than_a_point_of_uar_lost_is_not_good():
    assert Comparison(100, 0.1, 0.99, 0.800, 0.791).is_good
    assert not Comparison(100, 0.1, 0.99, 0.800, 0.789).is_good


def write_predictions(folder: Path, probabilities: np.ndarray, truth: np.ndarray) -> None:
    count = len(truth)
    frame = pd.DataFrame({"id": [str(row) for row in range(count)], "split": "test", "seed": 1, "fold": 0})
    frame = frame.assign(speaker="a", gender="female", duration=1.0, truth=[LABELS[place] for place in truth])
    for place, label in enumerate(LABELS):
        frame[f"p_{label}"] = probabilities[:, place]
    frame.to_parquet(folder / "predictions.parquet")


def test_a_file_that_answers_otherwise_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    monkeypatch.setattr(onnx_export, "trace", lambda model: _Traced(model))
    with pytest.raises(ValueError, match=r"differ from the model.s by .*nothing is written"):
        onnx_export.export_onnx(model, feature_extractor(), tmp_path / "m.onnx", 165)
    assert not list(tmp_path.iterdir())


class _Traced:
    """The least that `trace` returns."""

    def __init__(self, model):
        self.model = self
        self.graph, self.metadata_props = [], {}

    def save(self, path, external_data):
        helper, kind = onnx.helper, onnx.TensorProto
        node = helper.make_node("MatMul", ["input_values", "weight"], ["logits"])
        inputs = [
            helper.make_tensor_value_info("input_values", kind.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("attention_mask", kind.INT64, ["batch", "samples"]),
        ]
        reduce = helper.make_node("ReduceSum", ["input_values", "axis"], ["sum"])
        node = helper.make_node("MatMul", ["sum", "weight"], ["logits"])
        weights = [
            onnx.numpy_helper.from_array(np.ones((1, len(LABELS)), np.float32), "weight"),
            onnx.numpy_helper.from_array(np.array([1]), "axis"),
        ]
        outputs = [helper.make_tensor_value_info("logits", kind.FLOAT, ["batch", len(LABELS)])]
        graph = helper.make_graph([reduce, node], "other", inputs, outputs, weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        helper.set_model_props(made, self.metadata_props)
        onnx.save(made, path)


def test_an_export_writes_over_nothing(run):
    before = (run / "model.onnx").read_bytes()
    result = ser("export", run)
    assert (result.exit_code, "exists" in result.stderr) == (2, True)
    assert (run / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--format", "tflite", "--output", "x.onnx"], "'tflite' is not onnx"),
        (["--data_dir", "x"], "only --check takes flags of the data"),
        (["--check", "--output", "x.onnx"], "predictions.parquet is not there"),
    ],
)
def test_flags_of_no_use_are_refused(run, flags, reason):
    result = ser("export", run, *flags)
    assert result.exit_code == 2
    assert reason in result.stderr


def test_models_that_onnx_does_not_hold_are_refused(tmp_path):
    assert "--head tanh" in ser("export", tiny_stock_model(tmp_path / "stock")).stderr
    config = {"model_type": "ser", "backbone_config": {"model_type": "wav2vec2-bert"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "cannot put the features that wav2vec2-bert takes into the file" in ser("export", tmp_path).stderr


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(missing, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    assert "pip install 'ser[onnx]'" in ser("export", tmp_path).stderr
    if missing == "onnxruntime":
        assert "pip install 'ser[onnx]'" in ser("predict", "a.wav", "--onnx", "model.onnx").stderr


def test_predict_takes_one_model(run, tmp_path):
    for sources in ((), ("--model", run, "--onnx", run / "model.onnx")):
        result = ser("predict", "a.wav", *sources)
        assert result.exit_code == 2
        assert "--onnx" in result.stderr
    assert (
        "--device: cuda, but --onnx runs on the CPU"
        in ser("predict", "a.wav", "--onnx", "m", "--device", "cuda").stderr
    )


def test_files_that_are_not_ours_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    _Traced(None).save(tmp_path / "foreign.onnx", False)
    for name, reason in (
        ("text", "not an ONNX file"),
        ("foreign", "a file that ser export wrote"),
        ("none", "there is no file"),
    ):
        result = ser("predict", "a.wav", "--onnx", tmp_path / f"{name}.onnx")
        assert result.exit_code == 2
        assert reason in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_logits_that_are_not_finite_are_an_error_and_no_probabilities(run):
    classify, clips = OnnxClassifier(run / "model.onnx"), waves(0.5, 0.6)
    clips[1][7] = np.nan
    with pytest.raises(ValueError, match=r"^waves\[1\]: its logits are not finite"):
        classify.probabilities(clips)

"""The floor of fine-tuning: logistic regression on the statistics that a run of the same configuration caches."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fakes.fake_run import BASELINE
from fakes.tiny_runs import TINY, predictions_of
from fakes.tones import CLASSES, write_tones
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from typer.testing import CliRunner

import run_ser
from ser.cli import app
from ser.evaluation.format import baselines_of, verdict_of
from ser.evaluation.tables import baselines
from ser.experiments.encoder_baseline import fit_logistic

LABELS = sorted(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with tones, an encoder of random weights and a configuration of a probe on them."""
    folder = tmp_path_factory.mktemp("floor")
    manifest = write_tones(folder / "tones", clips_per_class=3)
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TINY["backbone_config"])).save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "encoder")
    config = {key: value for key, value in TINY.items() if key != "backbone_config"}
    config |= {"manifest": str(manifest), "model_name_or_path": str(folder / "encoder"), "pooling": "mean_std"}
    config |= {"train_mode": "probe", "layer_mix": "best", "fold": "all", "cache_dir": str(folder / "cache")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"output_dir": str(folder / "run"), "num_proc": 1}))
    return folder


@pytest.fixture(scope="module")
def floors(folder):
    """The run, and both baselines attached to it."""
    config = str(folder / "config.yaml")
    assert run_ser.main([config, "--debug_errors", "true"]) == 0
    cached = {path.name for path in (folder / "cache" / "ser_probe").iterdir()}
    outputs = []
    for features in ("encoder", "plain"):
        done = CliRunner().invoke(app, ["baseline", config, "--features", features, "--debug"])
        assert done.exit_code == 0, done.output
        outputs.append(done.output)
    return {"cached": cached, "outputs": outputs, "results": json.loads((folder / "run" / "results.json").read_text())}


def made_vectors(seed=0, clips=60):
    """Three classes that can be read in layer 1 of three."""
    generator, classes = np.random.default_rng(seed), np.arange(clips) % 3
    shifts = 2 * np.random.default_rng(9).standard_normal((3, 12))
    values = {part: generator.standard_normal((clips, 3, 12)) for part in ("train", "dev", "test")}
    for own in values.values():
        own[:, 1] += shifts[classes]
    rows = {"id": [f"c{k}" for k in range(clips)], "speaker": [f"s{k // 10}" for k in range(clips)]}
    return values, dict.fromkeys(values, classes), rows


def test_it_is_scikit_learns_logistic_regression_on_the_layer_chosen_inside_train():
    values, truth, rows = made_vectors()
    decisions, chosen = fit_logistic(values, truth, rows, LABELS)
    assert chosen["head"]["layer_mix"] == 1
    scaler = StandardScaler().fit(values["train"][:, 1])
    machine = LogisticRegression(C=1 / (60 * chosen["head"]["strength"]), class_weight="balanced", max_iter=2000)
    machine.fit(scaler.transform(values["train"][:, 1]), truth["train"])
    expected = machine.decision_function(scaler.transform(values["test"][:, 1]))
    np.testing.assert_allclose(decisions["test"], expected, atol=1e-6)


def test_dev_and_test_have_no_say_in_it():
    values, truth, rows = made_vectors()
    decisions, chosen = fit_logistic(values, truth, rows, LABELS)
    other = {part: own if part == "train" else own[::-1] * 3 for part, own in values.items()}
    turned = {part: own if part == "train" else own[::-1] for part, own in truth.items()}
    others, same = fit_logistic(other, turned, rows, LABELS)
    assert same == chosen
    assert not np.array_equal(others["test"], decisions["test"])


@pytest.mark.slow
def test_it_learns_from_the_statistics_that_the_run_cached_on_the_runs_folds(folder, floors):
    assert {path.name for path in (folder / "cache" / "ser_probe").iterdir()} == floors["cached"]
    assert len([name for name in floors["cached"] if name.endswith(".npy")]) == 1
    own, run = (predictions_of(folder / name) for name in ("run-baseline-encoder", "run"))
    pd.testing.assert_frame_equal(own[["id", "fold", "truth"]], run[["id", "fold", "truth"]])
    for fold in range(3):  # a linear model chooses for both
        heads = [json.loads((folder / name / f"seed-42/fold-{fold}/results.json").read_text())["head"]
                 for name in ("run-baseline-encoder", "run")]  # fmt: skip
        assert heads[0]["layer_mix"] == heads[1]["layer_mix"]
        assert heads[0]["strength"] == heads[1]["strength"]


@pytest.mark.slow
def test_both_floors_stand_beside_the_run(folder, floors):
    section = floors["results"]["baseline"]
    assert set(section) == {"encoder", "functionals"}
    assert section["encoder"]["name"] == "logistic regression on frozen encoder"
    assert section["functionals"]["name"] == "SVM on acoustic functionals"
    rows = baselines(floors["results"])
    assert [row["name"] for row in rows[:2]] == [section[kind]["name"] for kind in ("functionals", "encoder")]
    assert (rows[2]["name"], rows[2]["uar"]) == ("this model", floors["results"]["test"]["uar"])
    done = CliRunner().invoke(app, ["report", str(folder / "run")])
    assert done.exit_code == 0, done.output
    page = (folder / "run" / "report.html").read_text()
    assert all(row["name"] in page.partition('id="baseline"')[2].partition("</section>")[0] for row in rows)


@pytest.mark.slow
def test_runs_that_are_pooled_again_keep_their_floors(folder, floors):
    (folder / "run" / "report.html").unlink()
    assert run_ser.main([str(folder / "config.yaml"), "--debug_errors", "true"]) == 0
    assert json.loads((folder / "run" / "results.json").read_text())["baseline"] == floors["results"]["baseline"]


def test_the_section_of_old_runs_is_read():
    assert baselines_of({"baseline": BASELINE}) == {"functionals": BASELINE}
    assert baselines_of({}) == {}
    assert "does not beat the baseline (SVM on functionals" in verdict_of({"baseline": BASELINE}).text


def test_fine_tuning_must_beat_both_floors_and_a_frozen_model_only_the_functionals():
    won = {"uar": 0.5, "interval": [0.4, 0.6], "difference": {"uar": 0.2, "interval": [0.1, 0.3], "p": 0.01}}
    results = {"baseline": {"functionals": won, "encoder": BASELINE}}
    assert not verdict_of(results).beats
    assert verdict_of({**results, "config": {"train_mode": "probe"}}).beats
    assert verdict_of({"baseline": {"functionals": won, "encoder": won}}).beats
    assert not verdict_of({"baseline": {"functionals": BASELINE, "encoder": won}}).beats


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"model_name_or_path": None}, "--model_name_or_path: --features encoder needs a pretrained encoder"),
        ({"target_columns": "valence"}, "--target_columns: 'valence' is a regression"),
    ],
)
def test_what_it_cannot_do_is_refused(folder, tmp_path, lines, message):
    config = yaml.safe_load((folder / "config.yaml").read_text()) | lines
    if "target_columns" in lines:
        config["manifest"] = str(write_tones(tmp_path / "tones", targets=True))
    config |= {"output_dir": str(tmp_path / "run")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(app, ["baseline", str(tmp_path / "config.yaml"), "--features", "encoder"])
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "run-baseline-encoder").exists()

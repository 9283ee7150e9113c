"""The baseline: a run folder like any other, fair to the model that it stands beside."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes.fake_corpora import prepared
from fakes.tones import CLASSES, write_tones
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation.compare import compare
from ser.evaluation.format import verdict_of
from ser.experiments.baseline import attach_baseline, fit_machine, run_baseline
from ser.predictions import read_predictions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), targets=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, manifest):
    return prepared(tmp_path_factory.mktemp("corpus"), "manifest", manifest=str(manifest))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus):
    """A baseline over all folds."""
    folder = tmp_path_factory.mktemp("whole")
    run_baseline(corpus, arguments(folder, fold="all"), folder / "run", seed=7)
    return folder / "run"


def arguments(tmp_path, **options):
    from ser.data.data_arguments import DataArguments

    options = {"corpus": "manifest", "manifest": "tones.csv", "num_folds": 3, "num_proc": 1, **options}
    return DataArguments(cache_dir=str(tmp_path), **options)


def made_values(seed=0, clips=90):
    """Three classes of five functionals, apart enough to be learnt and near enough to be confused."""
    generator = np.random.default_rng(seed)
    truth = {part: np.arange(clips) % 3 for part in ("train", "dev", "test")}
    return {p: generator.standard_normal((clips, 5)) + t[:, None] * (1, 0.5, 0, 0, 0) for p, t in truth.items()}, truth


def test_every_fold_is_a_run_folder_and_so_is_the_whole(corpus, whole):
    results, table = json.loads((whole / "results.json").read_text()), read_predictions(whole)
    test = table[table["split"] == "test"]
    assert sorted(test["id"]) == sorted(corpus["id"])
    np.testing.assert_allclose(test[[f"p_{label}" for label in sorted(CLASSES)]].sum(axis=1), 1)
    assert results["test"]["uar"] > 0.9
    assert results["protocol"]["folds"] == [0, 1, 2]
    assert results["protocol"]["num_folds"] == 3
    for fold in range(3):
        own = whole / "seed-7" / f"fold-{fold}"
        held = json.loads((own / "splits.json").read_text())
        assert set(test.loc[test["fold"] == fold, "id"]) == set(held["test"])
        assert json.loads((own / "results.json").read_text())["svm"]["dev_uar"] <= 1
    assert compare(table, table)["uar"]["p_value"] == 1


def test_the_same_corpus_gives_the_same_numbers_again_in_the_same_folder(corpus, tmp_path):
    first = run_baseline(corpus, arguments(tmp_path), tmp_path / "run")
    second = run_baseline(corpus, arguments(tmp_path), tmp_path / "run")
    assert {**first, "seconds": None} == {**second, "seconds": None}
    with pytest.raises(ValueError, match=r"--output_dir: .* differs in fold"):
        run_baseline(corpus, arguments(tmp_path, fold="1"), tmp_path / "run")


def test_test_clips_have_no_say_in_the_machine():
    values, truth = made_values()
    decisions, choice = fit_machine(values, truth)
    other = {**values, "test": 100 * values["test"]}
    others, same = fit_machine(other, {**truth, "test": truth["test"][::-1]})
    np.testing.assert_array_equal(decisions["dev"], others["dev"])
    assert choice == same


def test_dev_teaches_the_machine_nothing(monkeypatch):
    monkeypatch.setattr("ser.experiments.baseline.MACHINES", (("linear", 0.1),))
    values, truth = made_values()
    other, _ = fit_machine({**values, "dev": -5 * values["dev"]}, truth)
    np.testing.assert_array_equal(other["test"], fit_machine(values, truth)[0]["test"])


def test_functionals_count_alike_whatever_their_unit_and_dev_chooses_the_machine():
    values, truth = made_values()
    scaled = {part: value * (1, 10, 100, 1000, 1e4) + 5 for part, value in values.items()}
    (decisions, choice), (others, same) = fit_machine(values, truth), fit_machine(scaled, truth)
    np.testing.assert_allclose(decisions["test"], others["test"], atol=1e-6)
    assert choice == same
    assert choice["dev_uar"] == pytest.approx(
        np.mean([(decisions["dev"].argmax(axis=1) == c)[truth["dev"] == c].mean() for c in range(3)])
    )


def test_two_classes_are_decided_like_many():
    values, truth = made_values()
    two = {part: own < 2 for part, own in truth.items()}
    decisions, _ = fit_machine(
        {part: values[part][two[part]] for part in values}, {part: own[two[part]] for part, own in truth.items()}
    )
    assert decisions["test"].shape == (60, 2)
    assert (decisions["test"].argmax(axis=1) == truth["test"][two["test"]]).mean() > 0.6


def test_what_it_cannot_do_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match="--fold: 'first' is neither a number from 0 nor 'all'"):
        run_baseline(corpus, arguments(tmp_path, fold="first"), tmp_path / "run")
    with pytest.raises(ValueError, match="--target_columns: 'valence' is a regression"):
        run_baseline(corpus, arguments(tmp_path, target_columns="valence"), tmp_path / "run")
    with pytest.raises(ValueError, match="--features: 'all' is not one of plain, egemaps"):
        run_baseline(corpus, arguments(tmp_path), tmp_path / "run", features="all")
    assert not (tmp_path / "run").exists()


def test_a_model_is_compared_with_it_and_told_when_it_loses(whole, tmp_path):
    model = Path(shutil.copytree(whole, tmp_path / "model"))
    table = read_predictions(model)
    table[["p_anger", "p_neutral"]] = table[["p_neutral", "p_anger"]].to_numpy()  # a model that mixes up two classes
    table.to_parquet(model / "predictions.parquet")
    before = json.loads((model / "results.json").read_text())
    results = attach_baseline(model, whole)
    assert results == json.loads((model / "results.json").read_text())
    section = results.pop("baseline")["functionals"]
    assert results == before
    assert section["name"] == "SVM on acoustic functionals"
    low, high = section["difference"]["interval"]
    assert low <= section["difference"]["uar"] < -0.5 < 0
    assert high < 0
    assert section["difference"]["p"] < 0.05
    assert "does not beat the baseline" in verdict_of({"baseline": section}).text


def test_a_baseline_on_other_clips_is_refused_and_the_results_stay(corpus, tmp_path):
    for fold in ("0", "1"):
        run_baseline(corpus, arguments(tmp_path, fold=fold), tmp_path / fold)
    before = (tmp_path / "0" / "results.json").read_bytes()
    with pytest.raises(ValueError, match="the runs test other clips"):
        attach_baseline(tmp_path / "0", tmp_path / "1")
    assert (tmp_path / "0" / "results.json").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="expected the folder of a finished run"):
        attach_baseline(tmp_path / "0", tmp_path / "nowhere")


def test_the_command_takes_the_configuration_and_flags_of_training(manifest, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"corpus: manifest\nmanifest: {manifest}\nnum_folds: 3\noutput_dir: {tmp_path}/run\n")
    flags = ["--fold", "2", "--cache_dir", str(tmp_path), "--num_proc", "1"]
    done = CliRunner().invoke(app, ["baseline", str(config), *flags])
    assert done.exit_code == 0, done.output
    assert "SVM on acoustic functionals, speaker-independent 3-fold" in done.output
    assert set(pd.read_parquet(tmp_path / "run-baseline" / "predictions.parquet")["fold"]) == {2}
    done = CliRunner().invoke(app, ["baseline", str(config), "--foldd", "2"])
    assert done.exit_code == 2
    assert "Did you mean 'fold'?" in done.output


@pytest.mark.slow
def test_it_hears_emotion_in_real_speech(emodb_dir, tmp_path):
    options = {"corpus": "emodb", "data_dir": str(emodb_dir), "max_clips": 120}
    corpus = prepared(tmp_path, **options)
    results = run_baseline(corpus, arguments(tmp_path, manifest=None, **options, fold="all"), tmp_path / "run")
    assert results["test"]["intervals"]["uar"][0] > 1.5 * results["chance"]["uar"]

"""Robustness of a finished run: its own clips, its own models, the same numbers again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from fakes.fake_corpora import prepared
from fakes.made_run import LABELS, make_run
from fakes.tiny import tiny_model
from typer.testing import CliRunner

from ser.cli import app
from ser.evaluation.compare import compare
from ser.evaluation.figures import read_run, robustness_rows, run_plots
from ser.evaluation.results import build_results
from ser.experiments.conditions import CONDITIONS, Condition, chosen_conditions
from ser.experiments.robustness import Scorer, robustness, rows_of_test
from ser.files import write_json
from ser.predictions import read_predictions
from ser.publish.card import write_card
from ser.run_folder import add_to_results, models_of_folds
from ser_model import SERForAudioClassification

pytestmark = pytest.mark.slow

FEW = [condition for condition in CONDITIONS if condition.name in ("noise, SNR 0 dB", "speed 1.1", "Opus, 6 kbit/s")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, made):
    return prepared(tmp_path_factory.mktemp("corpus"), "manifest", manifest=str(made.corpus / "clips.csv"))


def load(folder):
    from transformers import AutoFeatureExtractor

    return SERForAudioClassification.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)


@pytest.mark.slow
def test_two_runs_give_the_same_numbers_under_every_condition(made, corpus, tmp_path):
    folders = [made.copy(tmp_path / name) for name in ("one", "two")]
    sections = [robustness(folder, corpus, load) for folder in folders]
    tables = [pd.read_parquet(folder / "robustness.parquet") for folder in folders]
    assert sections[0] == sections[1]
    pd.testing.assert_frame_equal(*tables)
    assert list(sections[0]["conditions"]) == [condition.name for condition in CONDITIONS]
    assert set(tables[0]["condition"]) == {"clean", *sections[0]["conditions"]}


def rightly_scored(made, folder):
    """The run again, with the classes that it predicts on test as the true ones: what is changed can only lose."""
    folder, table = made.copy(folder), read_predictions(made.folder)
    is_test, predicted = table["split"] == "test", table[[f"p_{label}" for label in LABELS]].idxmax(axis=1).str[2:]
    table["truth"] = table["truth"].where(~is_test, predicted)
    table.to_parquet(folder / "predictions.parquet", index=False)
    write_json(build_results(table, list(LABELS), {}), folder / "results.json")
    return folder


def test_drops_are_those_of_a_paired_comparison_and_stand_in_the_results(made, corpus, tmp_path):
    folder = rightly_scored(made, tmp_path / "run")
    before = json.loads((folder / "results.json").read_text())
    section = robustness(folder, corpus, load, FEW)
    after = json.loads((folder / "results.json").read_text())
    assert after.pop("robustness") == section
    assert after == before
    table = pd.read_parquet(folder / "robustness.parquet")
    clean, noisy = (table[table["condition"] == name] for name in ("clean", "noise, SNR 0 dB"))
    found, entry = compare(clean, noisy)["uar"], section["conditions"]["noise, SNR 0 dB"]
    assert (entry["drop"], entry["drop_interval"]) == (found["difference"], found["interval"])
    assert section["clean"]["uar"] == before["test"]["uar"] == 1
    assert entry["drop"] > 0
    assert entry["uar"] == pytest.approx(1 - entry["drop"])
    assert section["clean"]["interval"] == before["test"]["intervals"]["uar"]
    assert entry["n"] == before["test"]["n"] == 10
    assert section["conditions"]["Opus, 6 kbit/s"]["parameters"]["achieved_kbit_per_second"] > 6


def test_the_report_shows_what_is_written(made, corpus, tmp_path):
    folder = made.copy(tmp_path / "run")
    section = robustness(folder, corpus, load, FEW)
    run = read_run(folder)
    assert [row["change"] for row in robustness_rows(run.results)] == [
        -e["drop"] for e in section["conditions"].values()
    ]
    assert "robustness" in run_plots(run)


def test_report_and_card_say_so_where_only_some_folds_were_scored(made, corpus, tmp_path):
    folder = made.copy(tmp_path / "run")
    section = robustness(folder, corpus, load, FEW[:1])
    words = "Only the test clips of fold-0, fold-2."
    for folds, is_said in ((None, False), (["fold-0", "fold-2"], True)):
        add_to_results(folder, robustness=section | ({"folds": folds} if folds else {}))
        assert (words in run_plots(read_run(folder))["robustness"].caption) == is_said
        assert (words in write_card(folder).read_text(encoding="utf-8")) == is_said


def test_nothing_done_is_no_drop_and_noise_changes_the_scores(made, corpus, tmp_path):
    nothing = Condition("nothing", "gain", {"gain_db": 0.0})
    section = robustness(made.copy(tmp_path / "run"), corpus, load, [nothing, *FEW])
    table = pd.read_parquet(tmp_path / "run" / "robustness.parquet").set_index(["condition", "id"])
    columns = [f"p_{label}" for label in LABELS]
    assert section["conditions"]["nothing"]["drop"] == 0
    pd.testing.assert_frame_equal(table.loc["nothing", columns], table.loc["clean", columns])
    for condition in FEW:
        assert np.abs(table.loc[condition.name, columns] - table.loc["clean", columns]).to_numpy().max() > 1e-3


def pooled(made, corpus, folder):
    """A run of two folds: one speaker's clips by one model, the other's by another."""
    folder.mkdir()
    shutil.copy(made.folder / "run_config.yaml", folder)
    test, tables = read_predictions(made.folder).query("split == 'test'"), []
    clips = corpus.cast_column("audio", corpus.features["audio"].__class__(decode=False))
    place = {clip: row for row, clip in enumerate(corpus["id"])}
    for fold, speaker in enumerate(("F03", "M03")):
        own = tiny_model(folder / "seed-1" / f"fold-{fold}", seed=fold)
        rows = test[test["speaker"] == speaker].assign(fold=fold, row=lambda rows: [place[clip] for clip in rows["id"]])
        table = Scorer(*load(own), list(LABELS), 4).table(rows, clips, None, None).drop(columns="condition")
        table.to_parquet(own / "predictions.parquet", index=False)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(folder / "predictions.parquet", index=False)
    write_json(build_results(table, list(LABELS), {}), folder / "results.json")
    return folder


def test_each_clip_of_a_pooled_run_is_scored_by_the_model_of_its_fold(made, corpus, tmp_path):
    folder = pooled(made, corpus, tmp_path / "pooled")
    section = robustness(folder, corpus, load, FEW)
    assert section["clean"]["n"] == 10
    table = pd.read_parquet(folder / "robustness.parquet")
    assert sorted(table[table["condition"] == "speed 1.1"]["fold"]) == [0] * 5 + [1] * 5
    clean = table[table["condition"] == "clean"].set_index("id")["p_anger"]
    stored = read_predictions(folder).set_index("id")["p_anger"]
    np.testing.assert_allclose(clean[stored.index], stored, atol=1e-5)


def test_clips_come_in_the_batches_of_the_run_the_longest_first(made, corpus, tmp_path):
    rows = rows_of_test(made.folder, corpus.shuffle(seed=0))
    assert rows["duration"].is_monotonic_decreasing
    equal = corpus.remove_columns("duration").add_column("duration", [1.0] * len(corpus))
    shuffled = read_predictions(made.folder).assign(duration=1.0).sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    assert rows_of_test(tmp_path / "shuffled.parquet", equal)["id"].is_monotonic_increasing


def test_another_model_in_the_folder_is_noticed(made, corpus, tmp_path):
    folder = made.copy(tmp_path / "run")
    before = (folder / "results.json").read_bytes()
    model, _ = load(folder)
    with torch.no_grad():
        model.classifier.weight.neg_()
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="model and corpus give other probabilities"):
        robustness(folder, corpus, load, FEW)
    assert (folder / "results.json").read_bytes() == before


def test_another_corpus_is_noticed(made, corpus, tmp_path):
    folder = shutil.copytree(made.corpus, tmp_path / "corpus")
    soundfile.write(folder / "F03A00.wav", 0.1 * np.random.default_rng(0).standard_normal(9_000), 16_000)
    changed = prepared(tmp_path, "manifest", manifest=str(folder / "clips.csv"))
    with pytest.raises(ValueError, match=r"F03A00 was .* s long when it was tested and is 0.562 s in the corpus now"):
        robustness(made.folder, changed, load, FEW)
    fewer = corpus.select([row for row, clip in enumerate(corpus["id"]) if not clip.startswith("M03")])
    with pytest.raises(ValueError, match=r"5 of 10 test clips are not in the corpus \(M03"):
        robustness(made.folder, fewer, load, FEW)


def test_what_is_no_finished_run_of_classes_is_refused(made, corpus, tmp_path):
    with pytest.raises(ValueError, match="holds no model"):
        robustness(tmp_path, corpus, load)
    folder = made.copy(tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {"task": "regression"}))
    with pytest.raises(ValueError, match="is a regression"):
        robustness(folder, corpus, load)
    (folder / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match="expected the folder of a finished run"):
        robustness(folder, corpus, load)


def test_the_command_finds_the_corpus_by_itself(made, tmp_path, monkeypatch):
    monkeypatch.setattr("ser.experiments.conditions.CONDITIONS", FEW)
    monkeypatch.setattr("ser.experiments.robustness.robustness.__defaults__", (FEW, None))
    folder = made.copy(tmp_path / "run")
    done = CliRunner().invoke(app, ["robustness", str(folder), "--cache_dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "noise, SNR 0 dB" in done.output
    assert (folder / "robustness.parquet").is_file()
    done = CliRunner().invoke(app, ["robustness", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds no model" in done.output


def test_conditions_are_chosen_by_kind_or_name_and_an_unknown_one_is_refused_with_those_known():
    names = [condition.name for condition in chosen_conditions("noise; speed 0.9")]
    assert names == ["noise, SNR 20 dB", "noise, SNR 10 dB", "noise, SNR 0 dB", "speed 0.9"]
    with pytest.raises(ValueError, match=r"--conditions: \['hum'\] is not known; kinds are noise, "):
        chosen_conditions("hum")


def test_folds_are_chosen_by_number_and_a_missing_one_is_named(tmp_path):
    for fold in (0, 1, 2):
        folder = tmp_path / "seed-1" / f"fold-{fold}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert [model.name for model in models_of_folds(tmp_path, "0, 2")] == ["fold-0", "fold-2"]
    assert len(models_of_folds(tmp_path, None)) == 3
    with pytest.raises(ValueError, match=r"--folds: '3' names fold-3, .* it holds fold-0, fold-1, fold-2"):
        models_of_folds(tmp_path, "3")

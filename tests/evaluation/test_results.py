"""`results.json` holds every figure, computed from the predictions, in plain JSON that is whole at any moment."""

import json

import numpy as np
import pandas as pd
import pytest
from fakes.fake_predictions import LABELS, fake_predictions, fake_regression

from ser.evaluation import metrics
from ser.evaluation.calibration import rescale, shift
from ser.evaluation.results import build_results
from ser.evaluation.scored import truth_and_probabilities
from ser.files import json_types, write_json
from ser.predictions import read_predictions


def both_splits(**kwargs):
    return pd.concat([fake_predictions(split="dev", **kwargs), fake_predictions(**kwargs)], ignore_index=True)


def test_results_hold_the_scores_of_the_predictions():
    table = both_splits()
    results = build_results(table, LABELS, {})
    for split in ("test", "dev"):
        truth, probabilities = truth_and_probabilities(table[table["split"] == split], LABELS)
        expected = metrics.score(truth, probabilities, LABELS)
        assert {name: results[split][name] for name in expected} == expected
    assert results["task"] == "classification"
    assert results["labels"] == LABELS
    assert results["test"]["interval_unit"] == "speaker"
    assert results["test"]["clusters"] == 12


def test_results_are_json_and_come_back_the_same(tmp_path):
    results = build_results(both_splits(), LABELS, {"label_source": "filename"})
    write_json(results, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_the_pooled_value_is_the_mean_over_seeds_and_a_clip_counts_once():
    results = build_results(fake_predictions(seeds=(1, 2, 3)), LABELS, {})
    each = [build_results(fake_predictions(seeds=(seed,)), LABELS, {})["test"] for seed in (1, 2, 3)]
    for score in ("uar", "accuracy", "macro_f1", "ece", "nll", "brier"):
        assert results["test"][score] == pytest.approx(np.mean([one[score] for one in each]))
    assert results["test"]["n"] == 300
    assert np.sum(results["test"]["confusion"]) == pytest.approx(300)
    assert results["test"]["unit"] == results["calibration"]["unit"] == "clip; of several seeds, the mean over them"
    assert sum(bar["n"] for bar in results["calibration"]["reliability"]) == pytest.approx(300)
    assert results["calibration"]["abstain"]["n"][-1] == 300
    assert results["test"]["per_class"]["anger"]["support"] == each[0]["per_class"]["anger"]["support"]


def test_folds_and_seeds_have_mean_deviation_and_a_line_each():
    table = fake_predictions(seeds=(1, 2))
    results = build_results(table, LABELS, {})
    assert [(run["seed"], run["fold"]) for run in results["per_run"]] == [(s, f) for s in (1, 2) for f in (0, 1, 2)]
    assert sum(run["n"] for run in results["per_run"]) == 600
    by_fold = pd.DataFrame(results["per_run"]).groupby("fold")["uar"].mean()
    assert results["folds"]["uar"] == {"mean": pytest.approx(by_fold.mean()), "std": pytest.approx(by_fold.std())}
    by_seed = [build_results(fake_predictions(seeds=(seed,)), LABELS, {})["test"]["uar"] for seed in (1, 2)]
    assert results["seeds"]["uar"]["mean"] == pytest.approx(np.mean(by_seed))
    assert results["protocol"] == {"folds": [0, 1, 2], "seeds": [1, 2]}


def test_chance_is_of_the_classes_that_are_there():
    table = fake_predictions()
    results = build_results(table[table["truth"] != "fear"], LABELS, {})
    assert results["chance"]["uar"] == pytest.approx(1 / 3)
    assert results["chance"]["accuracy"] == pytest.approx(
        table.loc[table["truth"] != "fear", "truth"].value_counts(normalize=True).max()
    )
    assert results["test"]["per_class"]["fear"]["recall"] is None
    assert results["test"]["intervals"]["recall"]["fear"] is None


def test_what_was_not_computed_is_absent():
    only_dev = build_results(fake_predictions(split="dev"), LABELS, {})
    assert "test" not in only_dev
    assert only_dev["per_run"] == []
    without = build_results(fake_predictions().assign(speaker=None, gender=None, fold=0), LABELS, {})
    assert not {"dev", "gender", "speakers", "folds", "seeds"} & set(without)
    assert without["test"]["interval_unit"] == "clip"
    assert "over clips" in without["test"]["interval_method"]


def test_calibration_compares_with_what_the_model_said_before():
    table = both_splits()
    columns = [f"p_{label}" for label in LABELS]
    table[columns] = rescale(table[columns].to_numpy(), 1 / 3.0)
    section = build_results(table, LABELS, {"calibration": {"temperature": 3.0}})["calibration"]
    raw = build_results(both_splits(), LABELS, {})
    assert section["dev_nll_before"] == pytest.approx(raw["dev"]["nll"])
    assert section["ece_before"] == pytest.approx(raw["test"]["ece"])
    assert section["brier_after"] != pytest.approx(section["brier_before"])
    assert sum(bar["n"] for bar in section["reliability"]) == 300
    assert [bar["accuracy"] for bar in section["reliability_before"]] == [
        bar["accuracy"] for bar in raw["calibration"]["reliability"]
    ]
    assert "nll_before" not in raw["calibration"]
    assert build_results(both_splits(), LABELS, {"calibration": {"temperature": None}}) == raw


def test_every_pooled_run_is_undone_by_its_own_temperature():
    raw, table = fake_predictions(seeds=(1, 2)), fake_predictions(seeds=(1, 2))
    columns = [f"p_{label}" for label in LABELS]
    runs = [{"seed": s, "fold": f, "temperature": 1.0 + s + f} for s in (1, 2) for f in (0, 1, 2)]
    own = 1.0 + table["seed"] + table["fold"]
    table[columns] = rescale(table[columns].to_numpy(), 1 / own.to_numpy())
    section = build_results(table, LABELS, {"calibration": {"per_run": runs}})["calibration"]
    assert section["nll_before"] == pytest.approx(build_results(raw, LABELS, {})["test"]["nll"])
    assert section["temperature"] == pytest.approx(3.5)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        build_results(table, LABELS, {"calibration": {"per_run": runs[:-1]}})


def test_the_threshold_is_chosen_on_dev_and_tried_on_test():
    table = both_splits(skill=5.0).assign(fold=0)
    section = build_results(table, LABELS, {})["calibration"]["precision_90"]
    assert section["dev"]["precision"] >= 0.9
    assert set(section["test"]) == {"precision", "interval", "coverage", "n"}
    nothing = build_results(both_splits(skill=0.0), LABELS, {})["calibration"]["precision_90"]
    assert nothing["threshold"] is None
    assert "test" not in nothing


def test_the_calibration_error_of_pooled_seeds_is_one_figure():
    runs = [{"seed": s, "fold": f, "temperature": 1.3} for s in (1, 2, 3) for f in (0, 1, 2)]
    results = build_results(both_splits(seeds=(1, 2, 3)), LABELS, {"calibration": {"per_run": runs}})
    for name in ("ece", "classwise_ece", "nll", "brier"):
        assert results["calibration"][f"{name}_after"] == pytest.approx(results["test"][name])
        assert results["calibration"][f"dev_{name}_after"] == pytest.approx(results["dev"][name])


@pytest.mark.parametrize("folded", [False, True])
def test_both_readings_of_the_scores_are_reported(folded):
    table, raw = both_splits(), both_splits()
    columns, bias = [f"p_{label}" for label in LABELS], np.array([0.5, 0.5, 0.0, -1.0])
    given = rescale(raw[columns].to_numpy(), 1 / 2.0)
    table[columns] = shift(given, bias * folded)
    known = {"temperature": 2.0, "bias": dict(zip(LABELS, bias, strict=True)), "calibrate_prior": folded}
    section = build_results(table, LABELS, {"calibration": known})["calibration"]
    truth = truth_and_probabilities(table[table["split"] == "test"], LABELS)[0]
    test = (table["split"] == "test").to_numpy()
    for name, probabilities in (("without_prior", given), ("with_prior", shift(given, bias))):
        expected = metrics.score(truth, probabilities[test], LABELS)
        for score in ("uar", "accuracy", "nll", "ece", "classwise_ece", "brier"):
            assert section["readings"][name][score] == pytest.approx(expected[score])
    assert section["nll_before"] == pytest.approx(build_results(raw, LABELS, {})["test"]["nll"])


def test_sections_of_the_run_are_passed_on():
    context = {"label_source": "filename", "protocol": {"name": "speaker_kfold", "folds": [0]}, "audit": None}
    results = build_results(fake_predictions(), LABELS, context)
    assert results["label_source"] == "filename"
    assert results["protocol"] == {"name": "speaker_kfold", "folds": [0], "seeds": [1]}
    assert "audit" not in results


def test_a_regression_has_concordance_in_the_place_of_recall():
    results = build_results(fake_regression(seeds=(1, 2)), ["arousal", "valence"], {})
    assert results["task"] == "regression"
    assert results["test"]["per_dimension"]["arousal"]["ccc"] > 0.9
    assert results["test"]["intervals"]["ccc"][0] < results["test"]["ccc"]
    assert results["folds"].keys() == {"ccc"}
    assert results["test"]["n"] == 200


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (lambda: fake_predictions().drop(columns="speaker"), "lacks .*speaker"),
        (lambda: fake_predictions().drop(columns="truth"), "p_<label> and truth"),
        (lambda: fake_predictions(seeds=(1, 1)), "'test0000' is tested more than once under seed 1"),
        (lambda: fake_predictions().assign(p_fear=np.nan), "finite"),
        (lambda: fake_predictions().assign(split="train"), "'train'"),
        (lambda: fake_predictions().drop(columns="p_fear"), "expected also .*fear"),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(table, says):
    with pytest.raises(ValueError, match=says):
        build_results(table(), LABELS, {})


def test_predictions_are_read_from_a_folder_or_a_file(tmp_path):
    fake_predictions().to_parquet(tmp_path / "predictions.parquet")
    pd.testing.assert_frame_equal(read_predictions(tmp_path), read_predictions(tmp_path / "predictions.parquet"))
    with pytest.raises(FileNotFoundError, match="finished run"):
        read_predictions(tmp_path / "nothing")


def test_numpy_paths_and_infinities_become_plain_json(tmp_path):
    content = {1: np.float32(0.5), "a": np.arange(2), "b": (np.nan, float("inf"), np.bool_(True)), "c": tmp_path}
    assert json_types(content) == {"1": 0.5, "a": [0, 1], "b": [None, None, True], "c": str(tmp_path)}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    write_json({"uar": 0.5}, path)
    with pytest.raises(TypeError):
        write_json({"uar": object()}, path)
    path.with_name("folder.json").mkdir()
    with pytest.raises(OSError, match=r"folder\.json"):
        write_json({"uar": 0.6}, path.with_name("folder.json"))
    assert json.loads(path.read_text()) == {"uar": 0.5}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.json", "results.json"]


def test_words_for_nobody_are_no_speaker_and_blanks_make_no_other_one(tmp_path):
    table = fake_predictions(clips=4)
    table["speaker"] = ["S1", "S1 ", "unknown", "NaN"]
    table["id"] = ["a", "b ", "c", "d"]
    table.to_parquet(tmp_path / "predictions.parquet")
    read = read_predictions(tmp_path)
    assert read["speaker"].tolist() == ["S1", "S1", None, None]
    assert read["id"].tolist() == ["a", "b", "c", "d"]

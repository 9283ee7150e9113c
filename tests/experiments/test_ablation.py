"""Ablation and leak: every setting once, the same folds for all, and one table of paired differences."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fakes.fake_predictions import LABELS, fake_predictions
from fakes.tiny_runs import SMALLEST
from fakes.tones import write_tones
from typer.testing import CliRunner

from ser.cli import app
from ser.data.splits import Split, save_split, split_hash
from ser.evaluation.compare import compare, leak_gap
from ser.evaluation.results import build_results
from ser.experiments.ablation import ablate, ablation_table, leak, leak_words
from ser.experiments.settings import parse_setting
from ser.files import write_json
from ser.predictions import read_predictions
from ser.run_folder import mark_finished
from ser.training.choice import chosen_by_dev, holm

SKILL = {"mean": 1.0, "mean_std": 2.5, "attentive_stats": 1.1}


class FakeRuns:
    """Stands for training: notes what was asked for, and writes predictions whose skill is set by pooling."""

    def __init__(self, scores_dev=True):
        self.asked, self.scores_dev = [], scores_dev

    def __call__(self, model, data, training):
        folder = Path(training.output_dir)
        self.asked.append((model, data, training))
        folder.mkdir(parents=True)
        skill = SKILL[model.pooling] + (data.protocol == "random_kfold")
        parts = ("dev", "test") if self.scores_dev else ("test",)
        table = pd.concat([fake_predictions(skill=skill, split=part) for part in parts], ignore_index=True)
        if data.protocol == "random_kfold":
            table["fold"] = np.arange(len(table)) % 3
        for fold, rows in table[table["split"] == "test"].groupby("fold"):
            test = tuple(sorted(rows["id"]))
            split = Split(data.protocol, int(fold), 42, True, ("a",) * 7, ("b",), test, "")
            own = folder / "seed-1" / f"fold-{fold}"
            save_split(Split(**{**vars(split), "sha256": split_hash(split)}), own / "splits.json")
        table.to_parquet(folder / "predictions.parquet", index=False)
        write_json(build_results(table, LABELS, {"protocol": {"name": data.protocol}}), folder / "results.json")
        mark_finished(folder)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"corpus": "synthetic", "output_dir": str(tmp_path / "run"), "use_cpu": True}))
    return path


def test_every_combination_is_run_once_in_a_folder_of_its_own(config, tmp_path):
    runs = FakeRuns()
    over = ["pooling=mean,mean_std", "loss=cross_entropy,focal"]
    content = ablate([str(config), "--num_folds", "3"], over, runs)
    assert [(model.pooling, model.loss) for model, _, _ in runs.asked] == [
        ("mean", "cross_entropy"),
        ("mean", "focal"),
        ("mean_std", "cross_entropy"),
        ("mean_std", "focal"),
    ]
    assert {data.num_folds for _, data, _ in runs.asked} == {3}
    assert len({training.output_dir for _, _, training in runs.asked}) == 4
    assert content == json.loads((tmp_path / "run-ablation" / "ablation.json").read_text())
    assert content["over"] == {"pooling": ["mean", "mean_std"], "loss": ["cross_entropy", "focal"]}


def test_what_is_finished_is_not_run_again_and_more_may_be_added(config, tmp_path):
    runs = FakeRuns()
    ablate([str(config)], ["pooling=mean"], runs)
    ablate([str(config)], ["pooling=mean,mean_std"], runs)
    assert [model.pooling for model, _, _ in runs.asked] == ["mean", "mean_std"]
    with pytest.raises(ValueError, match="holds another run, which differs in learning_rate"):
        ablate([str(config), "--learning_rate", "1"], ["pooling=mean"], runs)
    assert len(runs.asked) == 2


def test_the_table_pairs_every_setting_with_the_first(config, tmp_path):
    content = ablate([str(config)], ["pooling=mean,mean_std"], FakeRuns())
    first, second = content["settings"]
    folders = [tmp_path / "run-ablation" / of["folder"] for of in (first, second)]
    found = compare(*(read_predictions(folder) for folder in reversed(folders)))["uar"]
    assert first["difference"] is None
    expected = {"uar": found["difference"], "interval": found["interval"], "p": found["p_value"]}
    assert second["difference"] == expected | {"p_holm": found["p_value"]}
    assert second["difference"]["interval"][0] > 0
    table = ablation_table(content).splitlines()
    assert all("[" in line and line.startswith("pooling=mean") for line in table[1:3])
    with open(tmp_path / "run-ablation" / "ablation.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["pooling"] for row in rows] == ["mean", "mean_std"]
    assert float(rows[1]["difference"]) == found["difference"]
    assert rows[0]["difference"] == ""


def test_the_best_is_chosen_on_dev_and_its_worth_is_that_of_each_runs_own_choice(config, tmp_path):
    content = ablate([str(config)], ["pooling=mean,mean_std,attentive_stats"], FakeRuns())
    assert content["chosen_on_dev"] == "pooling=mean_std"
    best = next(of for of in content["settings"] if of["name"] == "pooling=mean_std")
    assert best["dev_uar"] > max(of["dev_uar"] for of in content["settings"] if of is not best)
    worth = content["chosen_by_dev"]
    assert worth["chosen"] == {"pooling=mean_std": 3}
    assert (worth["uar"], worth["interval"], worth["n"]) == (best["uar"], best["intervals"]["uar"], best["n"])
    lines = ablation_table(content).splitlines()
    assert lines[1].startswith("pooling=mean_std")
    assert lines[-2].startswith("Best on dev: pooling=mean_std.")
    assert "pooling=mean_std in 3" in lines[-1]


def test_each_run_chooses_by_its_own_dev():
    good, bad = (pd.concat([fake_predictions(skill=s, split=p) for p in ("dev", "test")]) for s in (4.0, 0.0))
    first, rest = good["fold"] == 0, good["fold"] != 0
    mixed = {"a": pd.concat([good[first], bad[rest]]), "b": pd.concat([bad[first], good[rest]])}
    worth = chosen_by_dev({name: table.reset_index(drop=True) for name, table in mixed.items()})
    assert worth["chosen"] == {"a": 1, "b": 2}
    assert worth["uar"] == pytest.approx(build_results(good, LABELS, {})["test"]["uar"])


def test_without_dev_nothing_is_chosen(config):
    content = ablate([str(config)], ["pooling=mean,mean_std"], FakeRuns(scores_dev=False))
    assert content["chosen_on_dev"] is content["chosen_by_dev"] is None
    assert "Dev was not scored, so no setting is chosen" in ablation_table(content)


def test_p_values_of_several_settings_are_corrected_for_their_number(config):
    content = ablate([str(config)], ["pooling=mean,mean_std,attentive_stats"], FakeRuns())
    changes = [of["difference"] for of in content["settings"][1:]]
    assert [change["p_holm"] for change in changes] == holm([change["p"] for change in changes])
    assert min(change["p_holm"] for change in changes) == pytest.approx(2 * min(change["p"] for change in changes))


def test_holm_keeps_false_alarms_among_all_comparisons_below_one_in_twenty():
    p = np.random.default_rng(0).random((4000, 5))
    assert np.mean([min(holm(row)) <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (["pooling=mean,maximum"], "--pooling: 'maximum' is not one of|invalid choice: 'maximum'"),
        (["learning_rate=1e-3,fast"], "fast"),
        (["poolin=mean"], "Did you mean 'pooling'"),
        (["protocol=speaker_kfold,random_kfold"], "'protocol' is not a flag of the model or of training"),
        (["seed=1,2"], "'seed' is not a flag of the model or of training"),
        (["pooling"], "not of the form flag=value,value"),
        (["pooling=mean,"], "not of the form flag=value,value"),
        (["pooling=mean,mean"], "names a value twice"),
        (["pooling=mean", "pooling=mean_std"], "pooling is given twice"),
        (["augmentations=[[}"], "is not JSON"),
        ([], "--over: is not given"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_trained(config, tmp_path, over, words):
    runs = FakeRuns()
    with pytest.raises(ValueError, match=words):
        ablate([str(config)], over, runs)
    assert runs.asked == []
    assert not (tmp_path / "run-ablation").exists()


def test_values_with_commas_are_given_as_json():
    gain = '[{"name": "Gain", "p": 0.5}]'
    assert parse_setting(f"augmentations=[[], {gain}]") == ("augmentations", ["[]", gain])
    assert parse_setting('--layer-mix=[3, "weighted"]') == ("layer_mix", ["3", "weighted"])


def test_a_leak_is_the_gap_between_two_protocols_on_the_same_clips(config, tmp_path):
    runs = FakeRuns()
    content = leak([str(config), "--fold", "1"], runs)
    asked = [(data.protocol, data.fold, data.accept_speaker_leakage) for _, data, _ in runs.asked]
    assert asked == [("speaker_kfold", "all", False), ("random_kfold", "all", True)]
    first, second = (read_predictions(tmp_path / "run-leak" / name) for name in ("speaker_kfold", "random_kfold"))
    assert content["gap"]["uar"] == leak_gap(first, second)["uar"]["difference"]
    assert content["gap"]["interval"][0] > 0
    assert [fold["train"] for fold in content["random_kfold"]["clips"]] == [7, 7, 7]
    assert "the leak is worth" in leak_words(content)


def test_a_leak_checks_the_folds_of_both_arms_before_it_trains_the_first(config):
    runs, checked = FakeRuns(), []

    def check(_, data, __):
        checked.append(data.protocol)
        if data.protocol == "random_kfold":
            raise ValueError("no such folds")

    with pytest.raises(ValueError, match="no such folds"):
        leak([str(config)], runs, check)
    assert checked == ["speaker_kfold", "random_kfold"]
    assert runs.asked == []


def test_frozen_folds_are_kept_for_speakers_and_dropped_for_random_ones(config, tmp_path):
    runs = FakeRuns()
    leak([str(config), "--splits_file", "frozen.json"], runs)
    assert [data.splits_file or None for _, data, _ in runs.asked] == ["frozen.json", None]


@pytest.mark.slow
def test_both_commands_train_and_tell(tmp_path, monkeypatch):
    for page in ("write_report", "write_plots"):  # most of the time of so small a run
        monkeypatch.setattr(f"run_ser.{page}", lambda *_, **__: None, raising=False)
    keys = {"corpus": "manifest", "manifest": str(write_tones(tmp_path / "tones")), "backbone_config": SMALLEST}
    keys |= {"num_folds": 3, "num_train_epochs": 1, "use_cpu": True, "disable_tqdm": True}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(keys | {"output_dir": str(tmp_path / "run"), "cache_dir": str(tmp_path)}))
    done = CliRunner().invoke(app, ["ablate", str(config), "--over", "pooling=mean,mean_std", "--fold", "1"])
    assert done.exit_code == 0, done.output
    assert done.output.count("pooling=mean") >= 4
    done = CliRunner().invoke(app, ["leak", str(config)])
    assert done.exit_code == 0, done.output
    assert "the leak is worth" in done.output
    folds = pd.read_parquet(tmp_path / "run-leak" / "random_kfold" / "predictions.parquet").query("split == 'test'")
    assert len(folds) == 36
    done = CliRunner().invoke(app, ["leak", str(config)])
    assert done.output.count("is finished; it is not made again") == 2

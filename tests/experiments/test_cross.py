"""Every corpus trains, every corpus is test: which runs are made, what each cell is made of, and what cannot be."""

import csv
import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import yaml
from fakes.fake_corpora import touch
from fakes.tiny_runs import SMALLEST
from fakes.tones import write_tones
from typer.testing import CliRunner

from ser.cli import app
from ser.data.splits import make_split
from ser.evaluation.per_corpus import corpus_scores
from ser.evaluation.results import build_results
from ser.experiments.cross import cross, cross_figure, cross_table
from ser.files import write_json
from ser.run_folder import mark_finished

pytestmark = pytest.mark.slow

EMODB = {"anger": "W", "boredom": "L", "sadness": "T"}
RAVDESS = {"anger": "05", "calm": "02", "sadness": "04"}


def write_corpora(folder: Path) -> list[dict]:
    """EMO-DB and RAVDESS of six speakers each: two classes in common, one of its own each; TESS has two speakers."""
    names = [
        f"{speaker:02d}a0{text}{letter}a.wav" for speaker in range(3, 9) for text in "12" for letter in EMODB.values()
    ]
    touch(folder / "emodb", *names)
    names = [
        f"03-01-{code}-01-01-0{t}-{actor:02d}.wav" for actor in range(1, 7) for t in "12" for code in RAVDESS.values()
    ]
    touch(folder / "ravdess", *names)
    touch(
        folder / "tess",
        *(f"{who}_{word}_{how}.wav" for who in ("OAF", "YAF") for word in "ab" for how in ("angry", "sad")),
    )
    rare = {"disgust": None, "fear": None, "happiness": None, "neutral": None}
    return [
        {"corpus": "emodb", "data_dir": str(folder / "emodb"), "label_map": rare},
        {"corpus": "ravdess", "data_dir": str(folder / "ravdess"), "label_map": rare | {"surprise": None}},
        {"corpus": "tess", "data_dir": str(folder / "tess"), "label_map": rare | {"surprise": None}},
    ]


def load(data):
    """What `load_corpus` returns, without audio."""
    from ser.data.corpora.table import list_corpus

    corpus = list_corpus(data)
    columns = {name: [getattr(r, name) for r in corpus.recordings] for name in ("id", "corpus", "speaker", "gender")}
    columns["emotion"] = [corpus.labels.index(r.emotion) for r in corpus.recordings]
    dataset = datasets.Dataset.from_dict(columns)
    return dataset.cast_column("emotion", datasets.ClassLabel(names=list(corpus.labels)))


class FakeRuns:
    """Stands for training: notes what was asked for, makes the split and guesses its test clips with some skill."""

    def __init__(self):
        self.asked = {}

    def __call__(self, model, data, training):
        folder, dataset = Path(training.output_dir), load(data)
        self.asked[folder.name] = data
        labels = dataset.features["emotion"].names
        folds = range(3) if data.fold == "all" else [int(data.fold)]
        tables = [self.table(dataset, make_split(dataset, data.protocol, fold, 3), labels, fold) for fold in folds]
        folder.mkdir(parents=True)
        table = pd.concat(tables, ignore_index=True)
        table.to_parquet(folder / "predictions.parquet", index=False)
        context = {
            "protocol": {"name": data.protocol},
            "audit": {"leaks": ["a leak."] if "across" in folder.name else []},
        }
        write_json(build_results(table, labels, context), folder / "results.json")
        mark_finished(folder)

    def table(self, dataset, split, labels, fold):
        rows = dataset.select([place for place, clip in enumerate(dataset["id"]) if clip in set(split.test)])
        truth = np.array(rows["emotion"])
        logits = np.random.default_rng(0).normal(size=(len(rows), len(labels)))
        logits[np.arange(len(rows)), truth] += 1.5
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        known = {name: rows[name] for name in ("id", "corpus", "speaker", "gender")}
        scores = {f"p_{label}": p[:, place] for place, label in enumerate(labels)}
        names = [labels[place] for place in truth]
        return pd.DataFrame({**known, "split": "test", "seed": 1, "fold": fold, "truth": names, **scores})


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    keys = {"corpora": write_corpora(tmp_path), "num_folds": 3, "fold": "all", "use_cpu": True}
    path.write_text(yaml.safe_dump(keys | {"output_dir": str(tmp_path / "run")}))
    return path


def by_pair(content):
    return {(cell["train"], cell["test"]): cell for cell in content["cells"]}


def test_each_corpus_trains_once_across_and_once_within(config, tmp_path):
    runs = FakeRuns()
    content = cross([str(config)], runs, load)
    across = {f"across-{name}" for name in ("emodb", "ravdess", "tess")}
    assert set(runs.asked) == across | {"within-emodb", "within-ravdess"}
    own, other = runs.asked["within-ravdess"], runs.asked["across-ravdess"]
    assert (own.protocol, list(own.entries()), own.fold) == ("speaker_kfold", ["ravdess"], "all")
    assert (other.protocol, list(other.entries()), other.fold) == (
        "train_on_one_corpus",
        ["emodb", "ravdess", "tess"],
        "1",
    )
    assert content == json.loads((tmp_path / "run-cross" / "cross.json").read_text())


def test_a_corpus_of_two_speakers_trains_for_the_others_and_cannot_be_tested_on_itself(config, capsys):
    cells = by_pair(cross([str(config)], FakeRuns(), load))
    assert cells["tess", "emodb"]["n"] == 24
    assert "it needs 3 or more" in cells["tess", "tess"]["why"]
    assert "within-tess is not made" in capsys.readouterr().out


def test_a_cell_holds_the_scores_of_the_other_corpus_whole_on_the_classes_of_the_one(config, tmp_path):
    cells = by_pair(cross([str(config)], FakeRuns(), load))
    table = pd.read_parquet(tmp_path / "run-cross" / "across-emodb" / "predictions.parquet")
    rows = table[table["corpus"] == "ravdess"]
    # RAVDESS's calm is no class of EMO-DB's.
    assert set(rows["truth"]) == {"anger", "sadness"}
    assert len(rows) == 24
    expected = corpus_scores(rows, ["anger", "boredom", "sadness"])
    found = cells["emodb", "ravdess"]
    assert {key: found[key] for key in expected} == expected
    assert found["classes"] == 2
    assert cells["emodb", "emodb"]["classes"] == 3
    assert cells["emodb", "emodb"]["n"] == 36


def test_table_csv_and_picture_show_every_cell_with_its_interval(config, tmp_path):
    content = cross([str(config)], FakeRuns(), load)
    cells = by_pair(content)
    lines = cross_table(content).splitlines()
    assert lines[0].split() == ["trained", "on", "emodb", "ravdess", "tess"]
    assert f"{cells['emodb', 'ravdess']['uar']:.3f} [" in lines[1]
    assert lines[3].split()[-1] == "n/a"
    assert "over the classes that both corpora have" in lines[4]
    assert "emodb: a leak." in lines
    with open(tmp_path / "run-cross" / "cross.csv") as file:
        rows = {(row["train"], row["test"]): row for row in csv.DictReader(file)}
    assert len(rows) == 9
    assert float(rows["emodb", "ravdess"]["uar_low"]) == cells["emodb", "ravdess"]["intervals"]["uar"][0]
    assert rows["tess", "tess"]["why"]
    assert (tmp_path / "run-cross" / "cross.png").read_bytes().startswith(b"\x89PNG")
    texts = [text.get_text() for text in cross_figure(content).axes[0].texts]
    assert texts.count("n/a") == 1
    assert f"{cells['ravdess', 'emodb']['uar']:.3f}" in texts


def test_what_is_finished_is_not_made_again(config, capsys):
    runs = FakeRuns()
    cross([str(config)], runs, load)
    cross([str(config)], runs, lambda data: load(data))
    assert capsys.readouterr().out.count("is finished; it is not made again") == 5


def test_a_label_map_of_the_configuration_stays_in_force(config):
    runs = FakeRuns()
    cross([str(config), "--label_map", '{"boredom": "calm"}'], runs, load)
    assert json.loads(runs.asked["within-emodb"].label_map) == {"boredom": "calm"}
    # Calm is now a class of both, and RAVDESS's own run knows no boredom.
    assert json.loads(runs.asked["within-ravdess"].label_map or "{}") == {}
    assert runs.asked["across-emodb"].label_map == '{"boredom": "calm"}'


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--corpora", ""], "needs two corpora or more, found 0"),
        (["--corpora", '[{"corpus": "emodb", "data_dir": "x"}]'], "needs two corpora or more, found 1"),
        (["--corpora", '[{"corpus": "emobd"}]'], "Did you mean 'emodb'"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_made(config, tmp_path, flags, words):
    with pytest.raises(ValueError, match=words):
        cross([str(config), *flags], FakeRuns(), load)
    assert not (tmp_path / "run-cross").exists()


@pytest.mark.slow
def test_two_corpora_are_trained_crossed_and_left_out(tmp_path, monkeypatch):
    for page in ("write_report", "write_plots"):  # most of the time of so small a run
        monkeypatch.setattr(f"run_ser.{page}", lambda *_, **__: None, raising=False)
    entries = [
        {"corpus": "manifest", "manifest": str(write_tones(tmp_path / name, seed=seed)), "name": name}
        for seed, name in enumerate(("low", "high"))
    ]
    keys = {"corpora": entries, "backbone_config": SMALLEST, "num_folds": 3, "balance": "class_and_corpus"}
    keys |= {"num_train_epochs": 1, "use_cpu": True, "disable_tqdm": True, "cache_dir": str(tmp_path / "cache")}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(keys | {"output_dir": str(tmp_path / "run")}))
    import run_ser

    assert run_ser.main([str(config), "--protocol", "leave_one_corpus_out", "--fold", "all", "--debug_errors"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert set(results["corpora"]) == {"low", "high"}
    assert results["test"]["n"] == 72
    assert results["audit"]["leaks"] is not None
    done = CliRunner().invoke(app, ["cross", str(config)])
    assert done.exit_code == 0, done.output
    assert "trained on" in done.output
    content = json.loads((tmp_path / "run-cross" / "cross.json").read_text())
    assert {(cell["train"], cell["test"]) for cell in content["cells"] if "uar" in cell} == {
        (train, test) for train in ("low", "high") for test in ("low", "high")
    }
    assert by_pair(content)["low", "high"]["n"] == 36

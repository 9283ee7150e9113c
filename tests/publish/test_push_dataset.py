"""A prepared corpus on the Hub: clips that play, folds as configurations, a licence."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from fakes.loopback_hub import LoopbackHub, talk_to
from fakes.made_run import make_corpus

from data_prep import load_corpus
from ser.data.audio import clip_wave, undecoded
from ser.data.data_arguments import DataArguments
from ser.data.splits import make_split
from ser.publish.dataset import check_folder, public_licence, push_dataset, stage_dataset


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("made") / "corpus") / "clips.csv"


@pytest.fixture(scope="module")
def args(manifest):
    return DataArguments(corpus="manifest", manifest=str(manifest), num_folds=3, num_proc=1)


@pytest.fixture(scope="module")
def dataset(args):
    return load_corpus(args)


@pytest.fixture(scope="module")
def folder(dataset, args, tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    stage_dataset(dataset, args, folder, "user/voices", "cc-by-4.0")
    return folder


@pytest.fixture
def client(monkeypatch):
    with LoopbackHub() as hub:
        talk_to(hub, monkeypatch)
        yield hub


def loaded(folder, config, cache):
    import datasets

    return datasets.load_dataset(str(folder), config, cache_dir=str(cache))


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_each_configuration_holds_the_fold_that_training_would_use(dataset, folder, tmp_path, fold):
    parts = loaded(folder, f"fold-{fold}", tmp_path)
    split = make_split(dataset, "speaker_kfold", fold, num_folds=3)
    assert {part: tuple(sorted(rows["id"])) for part, rows in parts.items()} == split.parts


def test_every_clip_is_stored_once_and_all_of_them_are_in_all(dataset, folder, tmp_path):
    import pyarrow.parquet as pq

    stored = Counter(i for path in (folder / "data").iterdir() for i in pq.read_table(path)["id"].to_pylist())
    assert stored == Counter(dataset["id"])
    assert sorted(loaded(folder, "all", tmp_path)["train"]["id"]) == sorted(dataset["id"])


def test_the_audio_column_plays_and_holds_the_same_samples(dataset, folder, tmp_path):
    import datasets

    rows = loaded(folder, "all", tmp_path)["train"]
    assert isinstance(rows.features["audio"], datasets.Audio)
    assert rows.features["emotion"] == dataset.features["emotion"]
    before = {row["id"]: clip_wave(row) for row in undecoded(dataset)}
    for row in undecoded(rows):
        assert (clip_wave(row) == before[row["id"]]).all()


def test_a_given_split_is_the_default_configuration(dataset, args, tmp_path):
    args = DataArguments(**{**args.__dict__, "protocol": "given"})
    configs = stage_dataset(dataset, args, tmp_path, "user/voices", "other")
    assert list(configs) == ["default", "all"]
    (default, other) = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])["configs"]
    assert default["default"]
    assert "default" not in other


def test_files_are_cut_where_they_would_grow_large(dataset, args, tmp_path, monkeypatch):
    monkeypatch.setattr("ser.publish.dataset._MAX_FILE_BYTES", 100_000)
    configs = stage_dataset(dataset, args, tmp_path, "user/voices", "other")
    assert len(configs["all"]["train"]) > 3
    assert sorted(loaded(tmp_path, "all", tmp_path / "cache")["train"]["id"]) == sorted(dataset["id"])


def test_the_card_names_licence_classes_and_the_law_and_no_folder_of_this_machine(folder, manifest):
    text = (folder / "README.md").read_text()
    data = yaml.safe_load(text.split("---")[1])
    assert data["license"] == "cc-by-4.0"
    assert data["task_categories"] == ["audio-classification"]
    assert "| anger | 5 |" in text
    assert "2024/1689" in text
    assert 'load_dataset("user/voices", "fold-0", split="train")' in text
    assert str(manifest.parent.parent) not in text


def test_a_corpus_without_a_licence_is_public_only_when_one_is_named():
    facts = {"name": "ours"}
    with pytest.raises(ValueError, match=r"licence is not known.*--private.*--licence"):
        public_licence(facts, None, private=False)
    assert public_licence(facts, None, private=True) == "other"
    assert public_licence(facts, "cc0-1.0", private=False) == "cc0-1.0"
    assert public_licence({"licence": "CC BY-NC-SA 4.0"}, None, private=False) == "cc-by-nc-sa-4.0"
    with pytest.raises(ValueError, match="--licence: 'mine' is not one of"):
        public_licence(facts, "mine", private=False)


def test_terms_that_the_hub_has_no_name_for_do_not_count_as_leave():
    with pytest.raises(ValueError, match="free of charge for academic purposes"):
        public_licence({"name": "ShEMO", "licence": "free of charge for academic purposes"}, None, private=False)


def test_a_random_split_is_refused_until_leakage_is_accepted(dataset, args, tmp_path):
    args = DataArguments(**{**args.__dict__, "protocol": "random_kfold"})
    with pytest.raises(ValueError, match="--accept_speaker_leakage true"):
        stage_dataset(dataset, args, tmp_path, "user/voices", "other")
    args = DataArguments(**{**args.__dict__, "accept_speaker_leakage": True})
    stage_dataset(dataset, args, tmp_path, "user/voices", "other")
    assert "speaker-dependent random 3-fold" in (tmp_path / "README.md").read_text()


def test_a_card_that_names_a_folder_of_this_machine_stops_the_push(folder, args, tmp_path):
    import shutil

    spoiled = Path(shutil.copytree(folder, tmp_path / "spoiled"))
    with open(spoiled / "README.md", "a") as card:
        card.write(str(Path.home() / "secret"))
    with pytest.raises(ValueError, match="names a folder of this machine"):
        check_folder(spoiled, {}, args)


def test_a_dry_run_asks_nothing_of_the_hub(dataset, args, client, capsys):
    assert push_dataset(dataset, args, "user/voices", private=True, dry_run=True) is None
    assert "fold-0, fold-1, fold-2, all" in capsys.readouterr().out
    assert not client.requests


def test_a_push_that_fails_leaves_nothing_and_a_second_one_is_whole(dataset, args, client):
    client.fail("lfs-put", 500)
    with pytest.raises(OSError, match="500"):
        push_dataset(dataset, args, "user/voices", "cc-by-4.0")
    assert client.files("user/voices", "dataset") == {}
    client.heal()
    push_dataset(dataset, args, "user/voices", "cc-by-4.0")
    assert len(client.repos["dataset", "user/voices"].commits) == 2
    names = client.files("user/voices", "dataset").keys()
    assert names == {"README.md", "data/part-000.parquet", "data/part-001.parquet", "data/part-002.parquet"}


@pytest.mark.slow
def test_load_dataset_in_another_process_gives_the_pushed_fold(dataset, manifest, client, tmp_path):
    from typer.testing import CliRunner

    from ser.cli import app

    config = tmp_path / "voices.yaml"
    config.write_text(yaml.safe_dump({"corpus": "manifest", "manifest": str(manifest), "num_folds": 3}))
    flags = ["--licence", "cc-by-4.0", "--num_proc", "1"]
    done = CliRunner().invoke(app, ["push-dataset", str(config), "user/voices", *flags])
    assert done.exit_code == 0, done.output
    program = (
        "import datasets\n"
        "rows = datasets.load_dataset('user/voices', 'fold-1', split='test')\n"
        "print(type(rows.features['audio']).__name__, *sorted(rows['id']))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = kept | {"HF_ENDPOINT": client.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    kind, *ids = there.stdout.split()
    assert kind == "Audio"
    assert tuple(ids) == make_split(dataset, "speaker_kfold", 1, num_folds=3).test

"""The main job, from a manifest of tones to a folder that `pipeline` loads, with every option on the way."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fakes.tiny_runs import ROOT, TINY, launch, predictions_of, train
from fakes.tones import CLASSES, write_tones

import run_ser
from data_prep import load_corpus
from ser.data.audio import decode_wav
from ser.publish.staging import stage
from ser.training.arguments import parse_arguments
from ser.training.jobs import Job, part_clips, split_of
from ser_model import SERForAudioClassification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"), targets=True)


def waves_of(manifest: Path, ids: list[str]) -> list[np.ndarray]:
    return [decode_wav((manifest.parent / f"{clip}.wav").read_bytes()) for clip in ids]


def probabilities_in_a_new_process(folders: list[Path], waves: list[np.ndarray]) -> list[np.ndarray]:
    """What `pipeline` says of arrays, in a process that knows nothing of this project, from another folder."""
    elsewhere = folders[0].parent
    np.savez(elsewhere / "waves.npz", *waves)
    code = (
        "import sys, json, numpy as np\n"
        "from transformers import pipeline\n"
        "data = np.load('waves.npz')\n"
        "for folder in sys.argv[1:]:\n"
        "    ours = not folder.endswith('stock')\n"
        "    classify = pipeline('audio-classification', model=folder, trust_remote_code=ours)\n"
        "    rows = [{r['label']: r['score'] for r in classify(data[k], top_k=None)} for k in data.files]\n"
        "    print('scores', json.dumps(rows))"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, folders)],
        capture_output=True, text=True, cwd=elsewhere, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True,
    )  # fmt: skip
    answers = [json.loads(line.removeprefix("scores ")) for line in process.stdout.splitlines() if "scores [" in line]
    return [np.array([[row[label] for label in sorted(CLASSES)] for row in rows]) for rows in answers]


@pytest.fixture(scope="module")
def run(tmp_path_factory, manifest) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "plain", manifest, "--num_train_epochs", "3")


def test_a_run_leaves_what_its_users_need_and_no_training_state(run):
    needed = {
        "model.safetensors", "config.json", "ser_model.py", "preprocessor_config.json", "splits.json",
        "predictions.parquet", "results.json", "run_config.yaml", "training_log.json", "training_curves.png",
        "confusion_matrix.png", "report.html", "README.md", "finished.json",
    }  # fmt: skip
    found = {path.name for path in run.iterdir()}
    assert needed <= found
    assert all(name in needed or name.endswith(".png") for name in found)


def test_whoever_may_read_the_folder_may_read_every_file_in_it(run):
    modes = {path.name: path.stat().st_mode for path in run.iterdir() if path.is_file()}
    assert set(modes.values()) == {(run / "config.json").stat().st_mode}, modes


def test_results_hold_the_scores_of_the_predictions(run):
    results, test = json.loads((run / "results.json").read_text()), predictions_of(run)
    predicted = [max(CLASSES, key=lambda label, row=row: row[f"p_{label}"]) for _, row in test.iterrows()]
    assert results["test"]["accuracy"] == pytest.approx(np.mean(test["truth"] == predicted))
    assert results["test"]["n"] == len(test) == 12
    assert results["protocol"]["speaker_independent"] is True
    assert results["protocol"]["what_is_wrong"] is not None
    assert set(results["dev"]) >= {"uar", "accuracy", "macro_f1", "per_class", "confusion"}


def test_speakers_of_test_were_never_in_train(run):
    splits = json.loads((run / "splits.json").read_text())
    speakers = {part: {clip.split("_")[0] for clip in splits[part]} for part in ("train", "dev", "test")}
    assert not speakers["test"] & (speakers["train"] | speakers["dev"])


def test_a_finished_run_is_not_written_over(run, manifest, capsys):
    before = (run / "results.json").stat().st_mtime_ns
    assert launch(run, manifest, "--num_train_epochs", "3") == 2
    assert "holds a finished run. --overwrite true replaces it" in capsys.readouterr().err
    assert (run / "results.json").stat().st_mtime_ns == before


def test_a_folder_of_something_else_is_left_alone(tmp_path, manifest, capsys):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years of work")
    for flags in ((), ("--overwrite", "true")):
        assert launch(folder, manifest, *flags) == 2
        assert "holds files that are no run of this project" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["chapter1.tex"]


def test_an_unfinished_run_with_other_arguments_is_left_alone(tmp_path, manifest, capsys):
    folder = train(tmp_path / "run", manifest)
    (folder / "results.json").unlink()
    assert launch(folder, manifest, "--seed", "7", "--pooling", "mean_std") == 2
    assert "holds another run, which differs in pooling, seed" in capsys.readouterr().err


def test_a_trained_model_is_scored_again_without_training(run, manifest, tmp_path):
    again = train(tmp_path / "again", manifest, "--do_train", "false", "--model_name_or_path", str(run))
    expected, found = predictions_of(run), predictions_of(again)
    columns = [f"p_{label}" for label in CLASSES]
    np.testing.assert_allclose(found[columns], expected[columns], atol=1e-6)
    assert not (again / "model.safetensors").exists()


def test_a_trained_model_is_not_scored_on_clips_it_was_trained_on(run, manifest, tmp_path, capsys):
    flags = ("--do_train", "false", "--model_name_or_path", str(run), "--fold", "1")
    assert launch(tmp_path / "other", manifest, *flags) == 2
    assert "was trained on another split" in capsys.readouterr().err


def test_a_model_of_unknown_training_is_scored_and_the_results_say_that_it_may_know_the_test_set(
    run, manifest, tmp_path
):
    bare = shutil.copytree(run, tmp_path / "somebodys_model", ignore=shutil.ignore_patterns("splits.json"))
    for name, model in (("known", run), ("unknown", bare)):
        train(tmp_path / name, manifest, "--do_train", "false", "--model_name_or_path", str(model))
        wrong = json.loads((tmp_path / name / "results.json").read_text())["protocol"]["what_is_wrong"]
        said = [line for line in wrong if "may have been trained on clips" in line]
        assert len(said) == (name == "unknown")
    assert said[0].startswith("somebodys_model ")


def test_an_impossible_fold_is_found_before_the_first_is_trained(tmp_path, manifest, monkeypatch, capsys):
    rows = pd.read_csv(manifest)
    # Only one speaker has the label: the fold that tests it leaves none for train.
    rows.loc[(rows["speaker"] == "s3") & (rows["label"] == "anger"), "label"] = "joy"
    rows["path"] = [str(manifest.parent / path) for path in rows["path"]]
    rows.to_csv(tmp_path / "clips.csv", index=False)
    monkeypatch.setattr(run_ser, "run_job", lambda *_: pytest.fail("a fold was trained"))
    flags = ("--fold", "all", "--seeds", "1,2", "--allow_outside_paths", "true")
    assert launch(tmp_path / "run", tmp_path / "clips.csv", *flags) == 2
    assert "train holds no clip of joy" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_backbone_from_a_folder_is_named_by_its_folder_wherever_results_are_shown(tmp_path, manifest):
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    folder = tmp_path / "home of me" / "my_hubert"
    HubertModel(HubertConfig(**TINY["backbone_config"])).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    run = train(tmp_path / "run", manifest, "--model_name_or_path", str(folder), "--backbone_config", "{}")
    assert json.loads((run / "results.json").read_text())["model"]["backbone"] == "my_hubert"
    assert yaml.safe_load((run / "run_config.yaml").read_text())["model_name_or_path"] == str(folder)
    for path in run.iterdir():
        assert path.name == "run_config.yaml" or b"home of me" not in path.read_bytes(), path.name
    (tmp_path / "staged").mkdir()
    stage(run, tmp_path / "staged", "me/model")
    for path in (tmp_path / "staged").iterdir():
        assert b"home of me" not in path.read_bytes(), path.name


def test_a_control_learns_from_shuffled_labels_is_scored_by_true_ones_and_says_so(run, tmp_path, manifest):
    folder = train(tmp_path / "control", manifest, "--num_train_epochs", "3", "--shuffle_train_labels", "true")
    for part in ("dev", "test"):
        assert predictions_of(folder, part)["truth"].tolist() == predictions_of(run, part)["truth"].tolist()
    wrong = json.loads((folder / "results.json").read_text())["protocol"]["what_is_wrong"]
    assert any("this run is a control" in line for line in wrong)
    model, data, training = parse_arguments([str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "x")])
    plain = Job(model, data, training, tmp_path, 1, 0)
    dataset = load_corpus(data)
    split = split_of(plain, dataset)
    shuffled = dataclasses.replace(plain, model=dataclasses.replace(model, shuffle_train_labels=True))
    true, dealt = (list(part_clips(job, dataset, split, "train").targets) for job in (plain, shuffled))
    assert true != dealt
    assert sorted(true) == sorted(dealt)


@pytest.mark.heavy
def test_folds_and_seeds_are_pooled_and_a_killed_run_goes_on(tmp_path, manifest, capsys):
    flags = ("--fold", "all", "--seeds", "1,2")
    whole = train(tmp_path / "whole", manifest, *flags)
    table = predictions_of(whole)
    assert table.groupby("seed")["id"].nunique().tolist() == [36, 36]
    assert len(table) == 72
    broken = train(tmp_path / "broken", manifest, *flags)
    for name in ("results.json", "seed-2/fold-1/results.json", "seed-2/fold-2/results.json"):
        (broken / name).unlink()
    kept = (broken / "seed-1" / "fold-2" / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    train(broken, manifest, *flags)
    assert capsys.readouterr().out.count("is finished; it is not trained again") == 4
    assert (broken / "seed-1" / "fold-2" / "model.safetensors").stat().st_mtime_ns == kept
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (whole, broken))
    assert first["test"] == second["test"]
    assert first["per_run"] == second["per_run"]


OPTIONS = {
    "probe": ["--train_mode", "probe", "--pooling", "mean_std", "--layer_mix", "weighted"],
    "lora": ["--lora_rank", "4"],
    "stock": ["--head", "stock"],
    "strong": [
        *(
            "--pooling",
            "attentive_stats",
            "--layer_mix",
            "weighted",
            "--loss",
            "logit_adjusted",
            "--mixup_alpha",
            "0.3",
        ),
        *("--layer_lr_decay", "0.9", "--head_learning_rate", "1e-2", "--label_smoothing_factor", "0.1"),
    ],
    "one layer": ["--layer_mix", "1", "--loss", "focal", "--balanced_sampler", "true"],
    "by seconds": ["--batch_seconds", "4", "--loss", "weighted", "--freeze_layers", "1", "--max_train_seconds", "0.5"],
}


@pytest.mark.slow
def test_every_recipe_ends_in_a_folder_whose_pipeline_gives_the_probabilities_that_were_written(
    run, tmp_path, manifest
):
    folders = [run, *(train(tmp_path / name, manifest, *flags) for name, flags in OPTIONS.items())]
    tables = [predictions_of(folder).sort_values("id") for folder in folders]
    found = probabilities_in_a_new_process(folders, waves_of(manifest, tables[0]["id"].tolist()))
    assert len(found) == len(folders)
    for folder, table, scores in zip(folders, tables, found, strict=True):
        expected = table[[f"p_{label}" for label in sorted(CLASSES)]].to_numpy()
        np.testing.assert_allclose(scores, expected, atol=1e-5, err_msg=folder.name)


@pytest.mark.slow
def test_dimensions_are_regressed_and_named(tmp_path, manifest):
    folder = train(tmp_path / "run", manifest, "--target_columns", "valence,arousal", "--num_train_epochs", "6")
    results = json.loads((folder / "results.json").read_text())
    assert results["task"] == "regression"
    assert set(results["test"]["per_dimension"]) == {"valence", "arousal"}
    assert results["test"]["ccc"] > 0.3
    model = SERForAudioClassification.from_pretrained(folder).eval()
    assert list(model.config.id2label.values()) == ["valence", "arousal"]
    table = predictions_of(folder)
    wave = waves_of(manifest, [table["id"].iloc[0]])[0]
    wave = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
    with torch.no_grad():
        values = model(wave).logits[0]
    np.testing.assert_allclose(values, table[["pred_valence", "pred_arousal"]].iloc[0].to_numpy(float), atol=1e-5)


@pytest.mark.slow
def test_the_probe_runs_the_backbone_once_and_scores_as_the_full_model_does(tmp_path, manifest, monkeypatch):
    calls = []
    original = SERForAudioClassification.layer_statistics
    monkeypatch.setattr(
        SERForAudioClassification, "layer_statistics", lambda self, *a, **k: calls.append(1) or original(self, *a, **k)
    )
    flags = ("--train_mode", "probe", "--pooling", "mean_std", "--layer_mix", "weighted", "--cache_dir", str(tmp_path))
    folder = train(tmp_path / "first", manifest, *flags, "--fold", "all")
    after_first = len(calls)
    train(tmp_path / "second", manifest, *flags, "--fold", "all", "--learning_rate", "1e-2")
    assert 0 < after_first == len(calls)
    again = train(
        tmp_path / "full", manifest, "--do_train", "false", "--model_name_or_path", str(folder / "seed-42" / "fold-0")
    )
    columns = [f"p_{label}" for label in CLASSES]
    expected = predictions_of(folder / "seed-42" / "fold-0")
    np.testing.assert_allclose(predictions_of(again)[columns], expected[columns], atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer_mix", "13"], "layer 13 of a backbone of 2"),
        (["--learning_rate", "fast"], "--learning_rate: 'fast' is not a number."),
        (["--poling", "mean"], "unknown flag '--poling'. Did you mean 'pooling'?"),
        (["--train_mode", "probe", "--pooling", "attentive_stats"], "attentive_stats weighs single frames"),
        (["--freeze_layers", "3"], "freeze_layers: 3 of a backbone of 2"),
        (["--fold", "5"], "folds 0 to 2"),
        (["--protocol", "random_kfold"], "accept_speaker_leakage"),
        (["--do_train", "false"], "names the trained model to score"),
        (["--target_columns", "valence", "--loss", "weighted"], "--loss: weighted is for classes"),
        (["--target_columns", "valence", "--mixup_alpha", "0.2"], "--mixup_alpha: 0.2 is for classes"),
        (["--target_columns", "valence", "--label_smoothing_factor", "0.1"], "--label_smoothing_factor: 0.1 is for"),
        (["--target_columns", "valence", "--balanced_sampler", "true"], "--balanced_sampler: True is for classes"),
        (["--model_name_or_path", "no/such/folder/here"], "no/such/folder/here"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_before_training(flags, message, tmp_path, manifest, capsys):
    assert launch(tmp_path / "run", manifest, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_random_split_is_possible_when_leakage_is_accepted_and_is_called_what_it_is(tmp_path, manifest):
    flags = ("--protocol", "random_kfold", "--accept_speaker_leakage", "true")
    results = json.loads((train(tmp_path / "run", manifest, *flags) / "results.json").read_text())
    assert results["protocol"]["speaker_independent"] is False


@pytest.mark.heavy
def test_a_real_backbones_shape_is_loaded_by_name_on_a_corpus_of_shemos_names(tmp_path, shemo_meta_dir):
    """HuBERT-base of random weights, ShEMO's 3000 names: what a user starts, but for two steps and short clips."""
    import soundfile
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(tmp_path / "hubert")
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(tmp_path / "hubert")
    index = pd.read_csv(shemo_meta_dir / "index.csv")
    generator = np.random.default_rng(0)
    for row in index.itertuples():
        folder = tmp_path / "ShEMO" / row.gender
        folder.mkdir(parents=True, exist_ok=True)
        wave = 0.1 * generator.standard_normal(int(0.05 * 16000)).astype(np.float32)
        soundfile.write(folder / f"{row.id}.wav", wave, 16000, subtype="PCM_16")
    flags = "--max_steps 2 --batch_seconds 0 --per_device_train_batch_size 4 --dataloader_num_workers 0 --use_cpu true"
    limits = "--eval_strategy no --save_strategy no --do_eval false --do_predict false --disable_tqdm true"
    limits += " --layer_mix 9 --head_strength 0.01"  # to choose among thirteen layers takes minutes
    code = run_ser.main(
        [
            str(ROOT / "configs" / "shemo_hubert_base.yaml"), "--data_dir", str(tmp_path / "ShEMO"),
            "--model_name_or_path", str(tmp_path / "hubert"), "--output_dir", str(tmp_path / "run"),
            *flags.split(), *limits.split(), "--debug_errors", "true",
        ]
    )  # fmt: skip
    assert code == 0
    extractor = json.loads((tmp_path / "run" / "preprocessor_config.json").read_text())
    assert extractor["return_attention_mask"] is True


def test_a_push_that_cannot_be_made_is_refused_before_training(tmp_path, manifest, capsys):
    cases = {
        ("--push_to_hub", "true"): "give the repository with --hub_model_id",
        ("--push_to_hub", "true", "--hub_model_id", "a b/c"): "a b/c",
        ("--push_to_hub", "true", "--hub_model_id", "me/model", "--fold", "all"): "several runs are asked for",
    }
    for flags, message in cases.items():
        assert launch(tmp_path / "run", manifest, *flags) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_two_processes_train_the_model_that_one_does_with_twice_the_batch(tmp_path, manifest):
    from safetensors.torch import load_file

    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    backbone = json.dumps({**TINY["backbone_config"], **quiet})
    flags = ["--backbone_config", backbone, "--final_dropout", "0", "--max_grad_norm", "0", "--calibrate", "false"]
    one = train(tmp_path / "one", manifest, *flags, "--per_device_train_batch_size", "4")
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_endpoint", "localhost:0"]
    program = [str(ROOT / "run_ser.py"), str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "two"), *flags]
    subprocess.run(
        [sys.executable, *launcher, "--rdzv_backend", "c10d", *program, "--per_device_train_batch_size", "2"],
        capture_output=True, check=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    first, second = (load_file(folder / "model.safetensors") for folder in (one, tmp_path / "two"))
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, atol=2e-3, rtol=0)
    columns = [f"p_{label}" for label in CLASSES]
    np.testing.assert_allclose(predictions_of(tmp_path / "two")[columns], predictions_of(one)[columns], atol=2e-2)

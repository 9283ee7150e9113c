"""Runs whose head is fitted on frozen statistics: probes, fine-tuning from one, going on from a run, the final fit."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from fakes.tiny_runs import ROOT, TINY, launch, predictions_of, train
from fakes.tones import write_tones
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor, pipeline

import run_ser
from ser import run_folder
from ser.data.audio import decode_wav, encode_wav
from ser.inference.loading import read_config
from ser.predictions import read_own_predictions
from ser.publish import pre_push_checks
from ser.publish.staging import check_run, stage
from ser.run_folder import read_results

pytestmark = pytest.mark.slow  # most of them train
FROZEN = str(ROOT / "configs" / "splits" / "shemo_speaker_5fold.json")
PROBE = ("--train_mode", "probe", "--pooling", "mean_std", "--layer_mix", "best")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_tones(tmp_path_factory.mktemp("tones"), clips_per_class=3, targets=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A backbone of random weights in a folder, as if it were pretrained."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TINY["backbone_config"])).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


def flags_of(encoder, *flags):
    return ("--model_name_or_path", str(encoder), "--backbone_config", "{}", *flags)


@pytest.fixture(scope="module")
def probe(tmp_path_factory, manifest, encoder):
    return train(tmp_path_factory.mktemp("runs") / "probe", manifest, *flags_of(encoder, *PROBE))


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_a_probe_says_which_layer_it_chose_and_from_what(probe):
    results = read_results(probe)
    assert {layer["layer"] for layer in results["layers"]} == {"0", "1", "2", "all"}
    assert sum(layer["chosen"] for layer in results["layers"]) == 1
    chosen = next(layer["layer"] for layer in results["layers"] if layer["chosen"])
    assert str(results["head"]["layer_mix"]) == chosen == str(results["model"]["layer_mix"])
    assert results["head"]["strength"] > 0
    held_out = set(pd.read_parquet(probe / "layers.parquet")["id"])
    assert held_out == set(json.loads((probe / "splits.json").read_text())["train"])


def test_labels_of_dev_and_test_dealt_out_anew_change_no_choice_and_no_weight(probe, manifest, encoder, tmp_path):
    rows = pd.read_csv(manifest)
    split = json.loads((probe / "splits.json").read_text())
    outside = rows["path"].str.removesuffix(".wav").isin([*split["dev"], *split["test"]])
    rows.loc[outside, "label"] = rows.loc[outside, "label"].sample(frac=1, random_state=1).to_numpy()
    rows["id"], rows["path"] = rows["path"].str.removesuffix(".wav"), [str(manifest.parent / p) for p in rows["path"]]
    rows["split"] = "train"
    for part in ("dev", "test"):
        rows.loc[rows["id"].isin(split[part]), "split"] = part
    rows.to_csv(tmp_path / "clips.csv", index=False)
    flags = flags_of(encoder, *PROBE, "--protocol", "given", "--calibrate", "false")
    dealt = train(tmp_path / "dealt", tmp_path / "clips.csv", *flags, "--allow_outside_paths", "true")
    assert read_results(dealt)["head"] == read_results(probe)["head"]
    temperature = read_results(probe)["calibration"]["temperature"]
    before, after = weights_of(probe), weights_of(dealt)
    for name, weight in after.items():
        scale = temperature if name.startswith("classifier") else 1.0
        torch.testing.assert_close(before[name] * scale, weight, rtol=1e-5, atol=1e-6)
    assert read_results(dealt)["test"]["uar"] != read_results(probe)["test"]["uar"]


@pytest.mark.parametrize("flags", [("--head", "linear"), ("--layer_mix", "all"), ("--layer_mix", "1")])
def test_the_model_that_is_saved_gives_the_scores_that_the_statistics_gave(flags, manifest, encoder, tmp_path):
    folder = train(tmp_path / "run", manifest, *flags_of(encoder, *PROBE, *flags))
    classify = pipeline("audio-classification", model=str(folder), trust_remote_code=True)
    for row in predictions_of(folder).head(4).to_dict("records"):
        answer = classify(str(manifest.parent / f"{row['id']}.wav"))
        for entry in answer:
            assert entry["score"] == pytest.approx(row[f"p_{entry['label']}"], abs=1e-5)


def test_dimensions_are_learned_from_statistics_too(manifest, encoder, tmp_path):
    flags = flags_of(encoder, *PROBE, "--target_columns", "valence,arousal")
    results = read_results(train(tmp_path / "run", manifest, *flags))
    assert results["test"]["ccc"] > 0.5
    assert results["head"]["cross_validated_ccc"] > 0.5


def test_augmented_copies_are_learned_from(manifest, encoder, tmp_path):
    noisy = '[{"name": "AddGaussianSNR", "min_snr_db": 0, "max_snr_db": 5, "p": 1.0}]'
    flags = flags_of(encoder, *PROBE, "--augmentations", noisy, "--probe_augmented_copies", "1", "--layer_mix", "1")
    copies = train(tmp_path / "copies", manifest, *flags)
    plain = train(tmp_path / "plain", manifest, *flags_of(encoder, *PROBE, "--layer_mix", "1"))
    assert not torch.equal(weights_of(copies)["projector.weight"], weights_of(plain)["projector.weight"])


def test_fine_tuning_starts_from_the_probe_and_says_what_dev_thought(probe, manifest, encoder, tmp_path):
    flags = flags_of(encoder, "--pooling", "mean_std", "--layer_mix", "best", "--learning_rate", "1e-9")
    folder = train(tmp_path / "run", manifest, *flags)
    start = read_results(folder)["start"]
    assert start["start"] == pytest.approx(read_results(probe)["dev"]["uar"])
    before, after = weights_of(probe), weights_of(folder)
    for name in ("projector.weight", "standardize.mean"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-5)


def test_fine_tuning_that_breaks_the_model_ends_as_the_probe(probe, manifest, encoder, tmp_path, capsys):
    flags = flags_of(encoder, "--pooling", "mean_std", "--layer_mix", "best", "--learning_rate", "30")
    folder = train(tmp_path / "run", manifest, *flags)
    assert "kept 0% of the way" in capsys.readouterr().out
    start = read_results(folder)["start"]
    assert start["share"] == 0
    assert start["kept"] == start["start"] > start["training"]
    before, after = weights_of(probe), weights_of(folder)
    for name, weight in before.items():
        if name.startswith("classifier."):  # calibrated on dev, whose logits come from other batches than the probe's
            torch.testing.assert_close(after[name], weight, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(after[name], weight), name


def test_attention_starts_as_the_plain_mean_and_deviation(probe, manifest, encoder, tmp_path):
    # A linear head has one best fit, wherever it starts.
    flags = ("--pooling", "attentive_stats", "--learning_rate", "1e-9", "--calibrate", "false", "--head", "linear")
    layer = str(read_results(probe)["head"]["layer_mix"])
    flags = flags_of(encoder, *flags, "--layer_mix", layer if layer != "all" else "1")
    folder = train(tmp_path / "attentive", manifest, *flags)
    plain = train(tmp_path / "plain", manifest, *(f if f != "attentive_stats" else "mean_std" for f in flags))
    columns = [column for column in predictions_of(plain) if column.startswith("p_")]
    np.testing.assert_allclose(predictions_of(folder)[columns], predictions_of(plain)[columns], atol=3e-3)


def test_a_run_goes_on_from_another_with_its_head_where_the_classes_are_the_same(probe, manifest, tmp_path):
    flags = ("--pooling", "mean_std", "--layer_mix", str(read_results(probe)["head"]["layer_mix"]))
    same = train(tmp_path / "same", manifest, *flags_of(probe, *flags, "--learning_rate", "1e-9", "--seed", "7"))
    torch.testing.assert_close(weights_of(same)["projector.weight"], weights_of(probe)["projector.weight"])
    assert read_results(same).get("head") is None
    renamed = pd.read_csv(manifest).replace({"label": {"anger": "hot anger"}})
    renamed["path"] = [str(manifest.parent / path) for path in renamed["path"]]
    renamed.to_csv(tmp_path / "renamed.csv", index=False)
    other_flags = ("--learning_rate", "1e-9", "--allow_outside_paths", "true")
    other = train(tmp_path / "other", tmp_path / "renamed.csv", *flags_of(probe, *flags, *other_flags))
    assert set(json.loads((other / "config.json").read_text())["label2id"]) == {"hot anger", "neutral", "sadness"}
    assert not torch.equal(weights_of(other)["projector.weight"], weights_of(probe)["projector.weight"])
    for name, weight in weights_of(probe).items():
        if name.startswith("backbone."):
            torch.testing.assert_close(weights_of(other)[name], weight, rtol=1e-4, atol=1e-6)


def test_a_run_does_not_go_on_from_a_model_that_knows_its_test_clips(probe, final, manifest, tmp_path, capsys):
    flags = ("--pooling", "mean_std", "--layer_mix", "1")
    for number, model in enumerate((probe, final)):
        assert launch(tmp_path / str(number), manifest, *flags_of(model, *flags, "--fold", "2")) == 2
        assert "clips of the test set" in capsys.readouterr().err
    assert launch(tmp_path / "same fold", manifest, *flags_of(probe, *flags)) == 0


@pytest.fixture(scope="module")
def final(tmp_path_factory, manifest, encoder):
    folder = tmp_path_factory.mktemp("runs") / "final"
    return train(folder, manifest, *flags_of(encoder, *PROBE, "--fold", "all", "--final_fit", "true"))


def test_a_final_fit_leaves_a_model_of_all_clips_with_the_score_of_the_folds(final, manifest):
    results, tested = read_results(final), predictions_of(final)
    assert results["test"]["n"] == len(tested) == 54
    assert results["final_fit"]["clips"] == 54
    assert sum(layer["chosen"] for layer in results["layers"]) == 3
    classify = pipeline("audio-classification", model=str(final), trust_remote_code=True)
    right = [
        classify(str(manifest.parent / f"{row['id']}.wav"))[0]["label"] == row["truth"]
        for row in tested.to_dict("records")
    ]
    assert np.mean(right) >= results["test"]["accuracy"]


def test_a_final_fit_is_calibrated_on_clips_that_were_held_out(final):
    temperature = json.loads((final / "config.json").read_text())["calibration_temperature"]
    assert temperature == pytest.approx(read_results(final)["final_fit"]["temperature"])
    assert temperature != 1.0


def test_report_and_card_say_whose_scores_they_show(final):
    words = "trained on all 54 clips, so that no clip is left to test it on. The scores are those of 3 models"
    for name in ("report.html", "README.md"):
        assert words in " ".join((final / name).read_text().split()), name
    model = json.loads((final / "config.json").read_text())
    results = read_results(final)
    assert results["model"]["layer_mix"] == model["layer_mix"] == results["final_fit"]["head"]["layer_mix"]


def test_what_the_final_model_says_lies_beside_the_folds_predictions(final, manifest):
    said = read_own_predictions(final)
    assert set(said["split"]) == {"train"}
    assert len(said) == 54
    classify = pipeline("audio-classification", model=str(final), trust_remote_code=True)
    for row in said.head(3).to_dict("records"):
        for entry in classify(str(manifest.parent / f"{row['id']}.wav")):
            assert entry["score"] == pytest.approx(row[f"p_{entry['label']}"], abs=1e-5)


@pytest.mark.heavy
def test_the_gate_lets_a_final_model_pass_that_answers_as_it_did(final, manifest, tmp_path):
    def audio(clip):
        return encode_wav(decode_wav((manifest.parent / f"{clip}.wav").read_bytes()))

    (tmp_path / "up").mkdir()
    check_run(final)
    stage(final, tmp_path / "up", "user/name")
    pre_push_checks.check(tmp_path / "up", final, audio)
    weights = load_file(tmp_path / "up" / "model.safetensors")
    weights["classifier.bias"][:1] += 50.0  # tones are told apart with certainty
    save_file(weights, tmp_path / "up" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights, code or audio are not those"):
        pre_push_checks.check_scores(tmp_path / "up", pre_push_checks.own_predictions(final), audio)


def test_the_gate_looks_at_the_split_of_every_fold(final, tmp_path):
    copy = shutil.copytree(final, tmp_path / "copy")
    pre_push_checks.check_tested_split(copy, read_results(copy), pre_push_checks.test_predictions(copy))
    lacking = pre_push_checks.test_predictions(copy).iloc[1:]
    with pytest.raises(ValueError, match=r"fold-0/splits.json names 18"):
        pre_push_checks.check_tested_split(copy, read_results(copy), lacking)
    shutil.copy(copy / "seed-42/fold-0/splits.json", copy / "seed-42/fold-1/splits.json")
    with pytest.raises(ValueError, match="the splits of its folds together has the hash"):
        pre_push_checks.check_tested_split(copy, read_results(copy), pre_push_checks.test_predictions(copy))


def test_folds_without_a_final_fit_promise_no_model_and_get_one_later(final, manifest, encoder, tmp_path, capsys):
    copy = shutil.copytree(final, tmp_path / "copy")
    for name in ("final_fit.json", "final_predictions.parquet", "model.safetensors", "config.json", "README.md"):
        (copy / name).unlink()
    capsys.readouterr()
    assert launch(copy, manifest, *flags_of(encoder, *PROBE, "--fold", "all")) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "the models are those of the folds, such as" in last
    assert "--final_fit true" in last
    assert "model," not in last
    for check in (check_run, lambda folder: read_config(str(folder))):
        with pytest.raises(ValueError, match=r"pools 3 runs.*seed-42/fold-0 to seed-42/fold-2.*--final_fit true"):
            check(copy)
    assert launch(copy, manifest, *flags_of(encoder, *PROBE, "--fold", "all", "--final_fit", "true")) == 0
    assert "model of all clips (the scores are those of its 3 folds)" in capsys.readouterr().out.splitlines()[-1]
    for name, weight in weights_of(final).items():
        assert torch.equal(weights_of(copy)[name], weight), name


def test_robustness_takes_the_tested_models_of_the_folds(final):
    assert run_folder.tested_models(final) == [final / "seed-42" / f"fold-{fold}" for fold in range(3)]


def test_a_final_fit_that_was_killed_is_made_again_and_no_fold_is(final, manifest, encoder, tmp_path, capsys):
    copy = shutil.copytree(final, tmp_path / "copy")
    for name in ("results.json", "final_fit.json", "model.safetensors"):
        (copy / name).unlink()
    capsys.readouterr()
    assert launch(copy, manifest, *flags_of(encoder, *PROBE, "--fold", "all", "--final_fit", "true")) == 0
    assert capsys.readouterr().out.count("is not trained again") == 3
    assert read_results(copy)["test"] == read_results(final)["test"]
    for name, weight in weights_of(final).items():
        assert torch.equal(weights_of(copy)[name], weight), name


def test_own_clips_need_one_command(manifest, encoder, tmp_path, capsys):
    """A folder a label, nobody named: refused with what to do, then a model, scores, a page and a card."""
    for row in pd.read_csv(manifest).to_dict("records"):
        (tmp_path / "clips" / row["label"]).mkdir(parents=True, exist_ok=True)
        shutil.copy(manifest.parent / row["path"], tmp_path / "clips" / row["label"])
    flags = ["--data_dir", str(tmp_path / "clips"), "--model_name_or_path", str(encoder), "--use_cpu", "true"]
    command = [str(ROOT / "configs" / "own_clips.yaml"), *flags, "--num_folds", "3", "--output_dir", f"{tmp_path}/run"]
    assert run_ser.main(command) == 2
    assert "columns path,label,speaker, or accept it with --accept_speaker_leakage true" in capsys.readouterr().err
    assert run_ser.main([*command, "--accept_speaker_leakage", "true", "--splits_file", FROZEN]) == 0
    out = capsys.readouterr().out
    assert out.count("shemo_speaker_5fold.json is of another corpus and is not applied") == 1
    results = read_results(tmp_path / "run")
    assert results["protocol"]["speaker_independent"] is False
    assert any("is not applied" in sentence for sentence in results["protocol"]["what_is_wrong"])
    assert "is not applied" in json.loads((tmp_path / "run/seed-42/fold-0/splits.json").read_text())["notes"][0]
    assert all((tmp_path / "run" / name).is_file() for name in ("model.safetensors", "report.html", "README.md"))
    assert "speaker-dependent" in (tmp_path / "run" / "README.md").read_text()


def test_a_final_fit_needs_all_folds(manifest, encoder, tmp_path, capsys):
    assert launch(tmp_path / "run", manifest, *flags_of(encoder, *PROBE, "--final_fit", "true")) == 2
    assert "--final_fit: needs --fold all" in capsys.readouterr().err

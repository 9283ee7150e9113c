"""Clips of a minute and more: scored in windows, in training as by the pipeline, and never in one large batch."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from fakes.one_step import CLASSES, LABELS, corpus, small_model
from fakes.tiny import feature_extractor, noise
from fakes.tiny_runs import SMALLEST, predictions_of, train
from fakes.tones import write_tones
from transformers import WhisperConfig, WhisperFeatureExtractor

from data_prep import load_corpus
from ser.data.batching import Clips, Collator
from ser.data.data_arguments import DataArguments
from ser.data.summary import LONG_SECONDS, long_clips_words
from ser.training.arguments import ModelArguments, SERTrainingArguments
from ser.training.fit import hear_at_most
from ser.training.frozen_features import corpus_statistics
from ser.training.scored_clips import ScoredClips, batches_of_process, cutting_of, outputs_of_waves, pieces_of
from ser.training.trainer import SERTrainer
from ser_model import MAX_WHOLE_SECONDS, SERConfig, SERForAudioClassification, SERPipeline


def write_long(folder: Path, seconds: float) -> Path:
    """Tones, and for every speaker one clip of `seconds`, with a pause in it."""
    manifest = write_tones(folder, clips_per_class=1)
    rows = list(csv.DictReader(manifest.open()))
    for number in range(6):
        loud = np.tile(noise(1.7, number), 40)[: round(seconds * 16000)]
        loud[round(0.3 * len(loud)) : round(0.55 * len(loud))] = 0
        soundfile.write(manifest.parent / f"long{number}.wav", loud, 16000, subtype="PCM_16")
        label = ("anger", "neutral", "sadness")[number % 3]
        rows.append({"path": f"long{number}.wav", "label": label, "speaker": f"s{number}", "gender": "female"})
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def pipeline_of(folder: Path) -> SERPipeline:
    model = SERForAudioClassification.from_pretrained(folder).eval()
    return SERPipeline(model=model, feature_extractor=feature_extractor(), task="audio-classification", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        (),
        pytest.param(("--train_mode", "probe"), marks=pytest.mark.heavy),
        pytest.param(("--calibrate_prior", "true"), marks=pytest.mark.heavy),
    ],
)
def test_a_run_writes_the_scores_that_the_pipeline_gives_for_long_clips(flags, tmp_path, monkeypatch):
    for module in ("ser_model", "ser.training.fit", "ser.training.frozen_features"):
        monkeypatch.setattr(f"{module}.MAX_WHOLE_SECONDS", 2.0)
    manifest = write_long(tmp_path / "tones", 3.1)
    smallest = ("--backbone_config", json.dumps(SMALLEST))
    folder = train(tmp_path / "run", manifest, *smallest, "--num_train_epochs", "2", *flags)
    classify, table = pipeline_of(folder), pd.read_parquet(folder / "predictions.parquet")
    assert set(table["split"]) == {"dev", "test"}
    assert (table["duration"] > 2).sum() >= 2
    labels = [column for column in table if column.startswith("p_")]
    for _, row in table.iterrows():
        scores = {f"p_{one['label']}": one["score"] for one in classify(manifest.parent / f"{row['id']}.wav")}
        np.testing.assert_allclose([row[label] for label in labels], [scores[label] for label in labels], atol=1e-5)
    long = table[table["duration"] > 2][labels].to_numpy()
    assert np.ptp(long, axis=1).min() > 1e-4  # scores that say something


@pytest.mark.heavy
def test_a_run_with_long_clips_passes_the_checks_before_a_push(tmp_path):
    from ser.publish.hub import push_run
    from ser.publish.pre_push_checks import audio_of

    manifest = write_long(tmp_path / "tones", 61.3)
    folder = train(tmp_path / "run", manifest)
    data = DataArguments(corpus="manifest", manifest=str(manifest))
    push_run(folder, "user/name", audio_of(load_corpus(data)), dry_run=True)
    assert predictions_of(folder)["duration"].max() > 60


def test_the_windows_of_a_dataset_are_those_of_the_pipeline_and_their_outputs_join_to_its_scores():
    model = small_model().eval()
    model.config.window_seconds = 7.0
    clips = Clips(corpus([1.0, 75.4, 60.0, 63.0], [0, 1, 2, 0]), [0, 1, 2, 0])
    cutting = cutting_of(model, feature_extractor())
    scored, collate = ScoredClips(clips, cutting), Collator(feature_extractor())
    assert scored.long_rows.tolist() == [1, 3]
    assert len(scored) == 2 + sum(len(pieces_of(scored.wave(row), cutting)) for row in (1, 3))
    with torch.no_grad():
        values = np.concatenate(
            [model(**without_labels(collate([scored[part]]))).logits.numpy() for part in range(len(scored))]
        )
    found = scored.joined(values, is_regression=False)
    classify = SERPipeline(model=model, feature_extractor=feature_extractor(), task="audio-classification")
    for row in range(4):
        scores = {one["label"]: one["score"] for one in classify(scored.wave(row))}
        expected = [scores[model.config.id2label[index]] for index in range(3)]
        np.testing.assert_allclose(torch.from_numpy(found[row]).double().softmax(-1), expected, atol=1e-6)
    again = outputs_of_waves(model, collate, [scored.wave(row) for row in range(4)], cutting)
    np.testing.assert_allclose(again, found, atol=1e-5)


def without_labels(batch):
    return {name: values for name, values in batch.items() if name != "labels"}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_of_dev_are_bounded_in_clips_and_seconds_and_shared_evenly(processes, tmp_path):
    lengths = np.concatenate([np.full(40, 4.0), np.linspace(0.5, 60.0, 30)])
    shares = []
    for process in range(processes):
        args = SERTrainingArguments(output_dir=str(tmp_path), per_device_eval_batch_size=8, use_cpu=True)
        args = Share(args, process, processes)
        shares.append(batches_of_process(lengths, args))
    assert len({len(share) for share in shares}) == 1
    batches = [batch for share in shares for batch in share]
    assert {row for batch in batches for row in batch} == set(range(len(lengths)))
    assert max(map(len, batches)) == 8
    assert max(len(batch) * lengths[batch].max() for batch in batches) <= 8 * 15


class Share:
    """Training arguments as one of several processes has them."""

    def __init__(self, args, process, processes):
        self.batch_seconds, self.eval_batch_size = args.batch_seconds, args.eval_batch_size
        self.process_index, self.world_size = process, processes


def test_the_loss_of_dev_is_the_mean_over_clips_whatever_the_batches(tmp_path):
    args = {"use_cpu": True, "disable_tqdm": True, "eval_strategy": "no", "save_strategy": "no"}
    losses = []
    for size in (3, 8):
        clips = Clips(corpus([0.5, 1.3, 0.2, 2.0, 0.9, 0.3, 1.1, 0.7], CLASSES), CLASSES)
        arguments = SERTrainingArguments(output_dir=str(tmp_path), per_device_eval_batch_size=size, **args)
        trainer = SERTrainer(
            small_model(), arguments, ModelArguments(), LABELS, Collator(feature_extractor()), eval_dataset=clips
        )
        losses.append(trainer.evaluate()["eval_loss"])
        output = trainer.predict(clips)
        expected = -torch.from_numpy(output.predictions).log_softmax(-1)[range(8), CLASSES].mean()
        assert losses[-1] == pytest.approx(float(expected), abs=1e-6)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_frozen_statistics_of_a_long_clip_are_those_of_its_pieces(tmp_path):
    model = small_model(pooling="mean_std").eval()
    clips = Clips(corpus([120.0, 1.0], [0, 1]), [0, 1])
    collator = Collator(feature_extractor())
    found = corpus_statistics(clips, model, collator, tmp_path).of(clips.ids).numpy()
    wave = ScoredClips(clips, None).wave(0)
    with torch.no_grad():
        halves = [
            model.layer_statistics(**without_labels(collator([{"wave": part, "label": 0}]))).numpy()[0]
            for part in np.split(wave, 2)
        ]
    size = halves[0].shape[-1] // 2
    np.testing.assert_allclose(found[0, :, :size], (halves[0] + halves[1])[:, :size] / 2, atol=1e-5)
    squares = sum(half[:, size:] ** 2 + half[:, :size] ** 2 for half in halves) / 2
    np.testing.assert_allclose(found[0, :, size:] ** 2, squares - found[0, :, :size] ** 2, atol=1e-4)


def test_training_hears_a_minute_of_a_long_clip_or_what_the_model_takes():
    clips = Clips(corpus([70.0, 1.0], [0, 1]), [0, 1])
    hear_at_most(clips, float("inf"), clips.rows)
    assert len(clips[(0, 0, 0)]["wave"]) == 60 * 16000
    assert len(clips[0]["wave"]) == 70 * 16000
    whisper = Clips(corpus([70.0, 1.0], [0, 1]), [0, 1])
    hear_at_most(whisper, 30.0, whisper.rows)
    assert len(whisper[(0, 0, 0)]["wave"]) == 30 * 16000
    given = Clips(corpus([70.0, 1.0], [0, 1]), [0, 1], max_seconds=65.0)
    hear_at_most(given, float("inf"), given.rows)
    assert len(given[(0, 0, 0)]["wave"]) == 65 * 16000


def test_whisper_scores_a_clip_beyond_its_window_as_its_pipeline_does():
    backbone = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, num_mel_bins=16,
        max_source_positions=100,
    )  # fmt: skip
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2, return_attention_mask=True)
    torch.manual_seed(0)
    model = SERForAudioClassification(SERConfig(backbone_config=backbone, num_labels=3)).eval()
    wave = noise(5.1)
    found = outputs_of_waves(model, Collator(extractor), [wave], cutting_of(model, extractor))[0]
    classify = SERPipeline(model=model, feature_extractor=extractor, task="audio-classification")
    scores = {one["label"]: one["score"] for one in classify(wave)}
    np.testing.assert_allclose(np.exp(found), [scores[model.config.id2label[index]] for index in range(3)], atol=1e-6)


def test_preparation_warns_of_long_clips_and_says_what_will_be_done(tmp_path, caplog):
    manifest = write_long(tmp_path, 60.1)
    load_corpus(DataArguments(corpus="manifest", manifest=str(manifest)))
    assert "6 clips of more than 60 s (the longest is 'long" in caplog.text
    assert "score it in windows" in caplog.text
    assert long_clips_words(["a"], [60.0]) is None
    assert LONG_SECONDS == MAX_WHOLE_SECONDS


TWO_PROCESSES = """
import sys
import numpy as np
from fakes.one_step import LABELS, corpus, small_model
from fakes.tiny import feature_extractor
from ser.data.batching import Clips, Collator
from ser.training.arguments import ModelArguments, SERTrainingArguments
from ser.training.distributed import leave_process_group
from ser.training.trainer import SERTrainer

def score():
    model = small_model()
    model.config.window_seconds = 25.0
    clips = Clips(corpus([0.5, 61.0, 0.4, 0.9, 0.3], [0, 1, 2, 0, 1]), [0, 1, 2, 0, 1])
    args = SERTrainingArguments(
        output_dir=sys.argv[1], per_device_eval_batch_size=2, use_cpu=True, eval_strategy="no", save_strategy="no"
    )
    trainer = SERTrainer(model, args, ModelArguments(), LABELS, Collator(feature_extractor()), eval_dataset=clips)
    np.save(f"{sys.argv[1]}-{args.process_index}-of-{args.world_size}.npy", trainer.predict(clips).predictions)

score()
leave_process_group()
"""


@pytest.mark.heavy
def test_two_processes_score_dev_as_one_does(tmp_path):
    script = tmp_path / "score.py"
    script.write_text(TWO_PROCESSES)
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    two = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    for launcher in ([], [*two, "--rdzv_endpoint", "localhost:0"]):
        command = [sys.executable, *launcher, str(script), str(tmp_path / "out")]
        subprocess.run(command, check=True, env=environment, capture_output=True)
    alone, *shares = (np.load(tmp_path / f"out-{name}.npy") for name in ("0-of-1", "0-of-2", "1-of-2"))
    assert alone.shape == (5, 3)
    for found in shares:
        np.testing.assert_allclose(found, alone, atol=1e-5)

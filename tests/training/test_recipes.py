"""Every option of a recipe on sixteen real clips: what moves, that it learns, and that the pipeline loads it."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from transformers import pipeline

import run_ser
from data_prep import load_corpus
from ser.data.audio import clip_wave, encode_wav, undecoded
from ser.data.batching import Clips, Collator
from ser.training.arguments import parse_arguments
from ser.training.freezing import freeze
from ser.training.jobs import Job
from ser.training.lora import merge_lora
from ser.training.losses import build_loss
from ser.training.models import new_model
from ser.training.trainer import SERTrainer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# With so few clips and so many steps there is nothing to regularise.
BY_HEART = "--final_dropout 0 --weight_decay 0 --max_steps 60 --learning_rate 3e-3 --use_cpu true --disable_tqdm true"
NO_DEV = "--eval_strategy no --save_strategy no --load_best_model_at_end false"
QUIET = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)
WHISPER = {
    "model_type": "whisper", "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96,
    "max_source_positions": 150, "num_mel_bins": 80, "dropout": 0.0,
}  # fmt: skip
W2V_BERT = {
    "model_type": "wav2vec2-bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 96, "feature_projection_input_dim": 160, "mask_time_prob": 0.0, "conformer_conv_dropout": 0.0,
    "add_adapter": False, "output_hidden_size": 64, **QUIET,
}  # fmt: skip


def everything(name: str) -> bool:
    # SpecAugment, whose vector this is, is off in the configuration; Whisper's positions are sines.
    return "masked_spec_embed" not in name and "embed_positions" not in name


def head(name: str) -> bool:
    return "backbone" not in name


def projections(name: str) -> bool:
    return any(f".{part}_proj.weight" in name for part in ("q", "k", "v", "out")) or head(name)


OPTIONS = {
    "as it is": ("", everything),
    "mean": ("--pooling mean", everything),
    "attentive_stats": ("--pooling attentive_stats", everything),
    "one layer": ("--layer_mix 1", lambda name: everything(name) and ".layers.1." not in name),
    "weighted layers": ("--layer_mix weighted", everything),
    "weighted layers, attention": ("--layer_mix weighted --pooling attentive_stats", everything),
    "cross-entropy": ("--loss cross_entropy", everything),
    "focal": ("--loss focal", everything),
    "logit adjustment": ("--loss logit_adjusted", everything),
    "label smoothing": ("--label_smoothing_factor 0.1 --loss cross_entropy", everything),
    "mixup": ("--mixup_alpha 0.3", everything),
    "balanced sampler": ("--balanced_sampler true", everything),
    "filled by seconds": ("--batch_seconds 8", everything),
    "frozen convolutions": ("--freeze_feature_encoder true", lambda n: everything(n) and "feature_extractor" not in n),
    "frozen layers": ("--freeze_layers 1", lambda n: everything(n) and (".layers.1." in n or head(n))),
    "frozen backbone": ("--freeze_base_model true --learning_rate 1e-2", head),
    "rates by layer": ("--layer_lr_decay 0.8 --head_learning_rate 5e-3", everything),
    "LoRA": ("--lora_rank 8 --learning_rate 1e-2", projections),
    "stock": ("--head stock --pooling mean", everything),
    "Whisper": (WHISPER, everything),
    "Whisper, cut": (WHISPER | {"whisper_full_window": False}, everything),
    "w2v-BERT": (W2V_BERT, everything),
}


@pytest.fixture(scope="module")
def sixteen(emodb_dir, tmp_path_factory) -> datasets.Dataset:
    """Sixteen clips of EMO-DB, half a second of each."""
    flags = ["--corpus=emodb", f"--data_dir={emodb_dir}", "--output_dir=."]
    _, data, _ = parse_arguments([*flags, f"--cache_dir={tmp_path_factory.mktemp('cache')}"])
    corpus = load_corpus(data)
    classes = np.asarray(corpus["emotion"])
    corpus = corpus.select(np.concatenate([np.flatnonzero(classes == kind)[: 3 - (kind > 1)] for kind in range(7)]))
    waves = [clip_wave(row)[4000:12000] for row in undecoded(corpus)]
    columns = {"id": corpus["id"], "emotion": corpus["emotion"], "duration": [len(wave) / 16000 for wave in waves]}
    columns["audio"] = [{"bytes": encode_wav(wave), "path": None} for wave in waves]
    short = datasets.Dataset.from_dict(columns).cast_column("emotion", corpus.features["emotion"])
    return short.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))


def job_of(option: str | dict, folder: Path) -> Job:
    flags = option.split() if isinstance(option, str) else []
    config = yaml.safe_load((ROOT / "configs" / "emodb_tiny.yaml").read_text())
    if isinstance(option, dict):
        config |= {key: value for key, value in option.items() if key == "whisper_full_window"}
        config["backbone_config"] = {key: value for key, value in option.items() if key != "whisper_full_window"}
    else:
        config["backbone_config"] |= QUIET
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model, data, training = parse_arguments(
        [str(folder / "config.yaml"), *BY_HEART.split(), *NO_DEV.split(), *flags, f"--output_dir={folder / 'run'}"]
    )
    return Job(model, data, training, folder / "run", 1, 0)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_moves_what_it_should_learns_sixteen_clips_and_loads(name, sixteen, tmp_path):
    option, should_move = OPTIONS[name]
    job, labels = job_of(option, tmp_path), sixteen.features["emotion"].names
    torch.manual_seed(0)
    model, extractor = new_model(job, labels)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    freeze(model, job.model)
    clips = Clips(sixteen, sixteen["emotion"], seed=1)
    trainer = SERTrainer(model, job.training_arguments(), job.model, labels, Collator(extractor), train_dataset=clips)
    trainer.train()
    if job.model.lora_rank:
        merge_lora(model)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if should_move(name)}
    logits = trainer.predict(clips).predictions
    assert excess_loss(job, logits, sixteen["emotion"]) <= 0.05
    run_ser.save_model(model, extractor, job.folder)
    classify = pipeline("audio-classification", model=str(job.folder), trust_remote_code=True)
    scores = [{row["label"]: row["score"] for row in classify(clips[row]["wave"], top_k=None)} for row in range(3)]
    expected = torch.from_numpy(logits[:3]).double().softmax(-1).numpy()
    np.testing.assert_allclose([[row[label] for label in labels] for row in scores], expected, atol=1e-5)


def excess_loss(job: Job, logits: np.ndarray, classes: list[int]) -> float:
    """The loss of the clean clips, above the least that smoothed labels allow."""
    counts, targets = np.bincount(classes), torch.nn.functional.one_hot(torch.tensor(classes)).float()
    smoothing = job.training.label_smoothing_factor
    loss = build_loss(job.model, counts, smoothing)
    excess = loss(torch.from_numpy(logits), targets)
    if smoothing:
        excess = excess - loss(((1 - smoothing) * targets + smoothing / len(counts)).log(), targets)
    return excess.mean().item()

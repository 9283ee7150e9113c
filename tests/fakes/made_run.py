"""A finished run over made-up voices, as run_ser.py leaves it: a model of random weights has scored its clips."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ser.data.audio import encode_wav
from ser.data.splits import Split, save_split, split_hash
from ser.evaluation.results import build_results
from ser.files import write_json

LABELS = ("anger", "fear", "happiness", "neutral", "sadness")
SPEAKERS = {"train": ("F01", "M01"), "dev": ("F02",), "test": ("F03", "M03")}
CLIPS_PER_SPEAKER = 5


@dataclass(frozen=True)
class MadeRun:
    """Where the run lies, where its recordings lie, and their bytes by id."""

    folder: Path
    corpus: Path
    audio: dict[str, bytes]

    def copy(self, folder: Path) -> Path:
        """The run's folder again, to be spoiled."""
        import shutil

        return Path(shutil.copytree(self.folder, folder))


def make_run(root: Path, stock: bool = False, **results: Any) -> MadeRun:
    """Makes a corpus of sines, a model, its predictions and its results.

    Args:
        stock: Whether the model is transformers' own class.
        results: Sections of `results.json` that replace those made here.
    """
    from fakes.tiny import tiny_model, tiny_stock_model

    clips = _clips()
    corpus = make_corpus(root / "corpus")
    folder = (tiny_stock_model if stock else tiny_model)(root / "run")
    scores = _scores(folder, clips)
    split = _split(clips)
    columns = {name: [clip[name] for clip in clips] for name in ("id", "speaker", "gender", "emotion")}
    save_split(split, folder / "splits.json", columns)
    table = pd.DataFrame([_row(clip, scores[clip["id"]]) for clip in clips if clip["split"] != "train"])
    table.to_parquet(folder / "predictions.parquet", index=False)
    config = {"corpus": "manifest", "manifest": str(corpus / "clips.csv"), "protocol": "given"}
    config |= {"output_dir": str(folder), "head": "stock" if stock else "tanh", "learning_rate": 1e-3, "fold": "0"}
    (folder / "run_config.yaml").write_text(yaml.safe_dump(config))
    log = [{"epoch": epoch, "loss": 2 / epoch, "eval_loss": 1.5, "eval_uar": 0.2} for epoch in (1, 2)]
    (folder / "training_log.json").write_text(json.dumps(log))
    context = {**_context(split, clips), "config": config, **results}
    write_json(build_results(table, list(LABELS), context), folder / "results.json")
    return MadeRun(folder, corpus, {clip["id"]: encode_wav(clip["wave"]) for clip in clips})


def _clips() -> list[dict[str, Any]]:
    generator, clips = np.random.default_rng(0), []
    for split, speakers in SPEAKERS.items():
        for speaker in speakers:
            for take in range(CLIPS_PER_SPEAKER):
                length = int(generator.integers(6_000, 16_000))
                pitch = generator.uniform(100, 300)
                phase = np.cumsum(pitch * (1 + 0.1 * np.sin(np.arange(length) / 2_000))) * 2 * np.pi / 16_000
                wave = 0.2 * np.sin(phase) + 0.1 * np.sin(2 * phase) + 0.01 * generator.standard_normal(length)
                clips.append(
                    {
                        "id": f"{speaker}{LABELS[take][0].upper()}{take:02d}",
                        "speaker": speaker,
                        "gender": "female" if speaker[0] == "F" else "male",
                        "emotion": LABELS[take],
                        "split": split,
                        "wave": wave.astype(np.float32),
                    }
                )
    return clips


def make_corpus(folder: Path) -> Path:
    """Writes the recordings and `clips.csv`, a manifest with speakers and a split."""
    folder.mkdir(parents=True)
    with open(folder / "clips.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "path", "label", "speaker", "gender", "split"))
        for clip in _clips():
            (folder / f"{clip['id']}.wav").write_bytes(encode_wav(clip["wave"]))
            row = (clip["id"], f"{clip['id']}.wav", clip["emotion"], clip["speaker"], clip["gender"], clip["split"])
            writer.writerow(row)
    return folder


def _scores(folder: Path, clips: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Probabilities of each clip, one at a time, by the model itself."""
    import torch
    from transformers import AutoFeatureExtractor, HubertForSequenceClassification

    from ser.data.audio import decode_wav
    from ser_model import SERForAudioClassification

    is_ours = (folder / "ser_model.py").is_file()
    model = (SERForAudioClassification if is_ours else HubertForSequenceClassification).from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    scores = {}
    with torch.no_grad():
        for clip in clips:
            wave = decode_wav(encode_wav(clip["wave"]))
            inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
            scores[clip["id"]] = model(**inputs).logits.double().softmax(-1)[0].numpy()
    return scores


def _split(clips: list[dict[str, Any]]) -> Split:
    parts = {part: tuple(sorted(c["id"] for c in clips if c["split"] == part)) for part in SPEAKERS}
    split = Split(protocol="given", fold=0, seed=42, speaker_independent=True, **parts, sha256="")
    return Split(**{**split.__dict__, "sha256": split_hash(split)})


def _row(clip: dict[str, Any], scores: np.ndarray) -> dict[str, Any]:
    return {
        **{name: clip[name] for name in ("id", "split", "speaker", "gender")},
        "seed": 1,
        "fold": 0,
        "duration": len(clip["wave"]) / 16_000,
        "truth": clip["emotion"],
        **{f"p_{label}": float(score) for label, score in zip(LABELS, scores, strict=True)},
    }


def _context(split: Split, clips: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "protocol": {
            "name": split.protocol,
            "speaker_independent": True,
            "num_folds": 1,
            "folds": [0],
            "seeds": [1],
            "split_sha256": split.sha256,
            "clips": {part: len(getattr(split, part)) for part in SPEAKERS},
        },
        "corpus": {
            "name": "EMO-DB",
            "licence": "CC BY 4.0",
            "language": "de",
            "citation": "F. Burkhardt et al.: A Database of German Emotional Speech. Interspeech 2005.",
            "clips": len(clips),
            "speakers": 5,
            "hours": 0.01,
            "clips_per_class": dict.fromkeys(LABELS, CLIPS_PER_SPEAKER),
        },
        "model": {"backbone": "hubert, from scratch", "parameters": 1000, "pooling": "mean"},
        "calibration": {"temperature": 1.1},
        "versions": {"torch": "2.13.0"},
    }

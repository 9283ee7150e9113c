"""A reader's folder: this project beside the files that README and docs/ name, all of them small.

The Hub is one of this machine. It holds tiny encoders of random weights under the names of the pretrained ones.
"""

import csv
import json
import os
import shutil
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import soundfile
from fakes.loopback_hub import TOKEN, LoopbackHub, Repo
from fakes.speech import speech_like
from fakes.tiny_runs import ROOT, SMALLEST

CLONE = ("run_ser.py", "data_prep.py", "ser_model.py", "ser", "configs", "benchmarks")
ENCODER = "whisper-tiny.en-encoder"
WHISPER = "openai/whisper-base"
EMODB = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
CREMA_D = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


def make_workspace(folder: Path, hub: LoopbackHub) -> Path:
    """Fills an empty folder, without runs, and the Hub."""
    for name in CLONE:
        (folder / name).symlink_to(ROOT / name)
    seeds = cycle(range(10_000))
    names = [f"{who}a0{1 + n % 2}{letter}a.wav" for who in EMODB_SPEAKERS for n, letter in enumerate(EMODB)]
    _write(folder / "emodb", names, seeds)
    _write(folder / "ShEMO", [f"{clip}.wav" for clip in _shemo_ids()], seeds)
    shutil.copytree(folder / "emodb", folder / "corpora" / "emodb")
    actors = range(1, 7)
    _write(
        folder / "corpora" / "ravdess", [f"03-01-0{n}-01-01-01-0{a}.wav" for a in actors for n in range(1, 9)], seeds
    )
    _write(folder / "corpora" / "crema-d", [f"100{a}_IEO_{code}_HI.wav" for a in actors for code in CREMA_D], seeds)
    _write(folder / "calls", ["one.wav", "two.flac", "march/three.ogg"], seeds)
    _write(folder, ["interview.wav", "clip.wav", "call.mp3"], seeds, seconds=9.0)
    _write_table(folder)
    for name, (config, extractor) in _encoders().items():
        save_encoder(folder / "hub", config, extractor)
        fill(hub, name, folder / "hub")
        if name == WHISPER:
            shutil.copytree(folder / "hub", folder / ENCODER)
        shutil.rmtree(folder / "hub")
    return folder


def _write(folder: Path, names: list[str], seeds: Any, seconds: float = 0.6) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        seed = next(seeds)
        soundfile.write(folder / name, speech_like(seed, seconds + 0.05 * (seed % 5)), 16_000)


def _shemo_ids() -> list[str]:
    """Clips of two speakers of each frozen fold, those with the most emotions; one clip of each emotion."""
    folds = json.loads((ROOT / "configs" / "splits" / "shemo_speaker_5fold.json").read_text())["folds"]
    chosen = []
    for ids in folds:
        by_speaker: dict[str, dict[str, str]] = {}
        for clip in ids:
            by_speaker.setdefault(clip[:3], {}).setdefault(clip[3], clip)
        chosen += sorted(by_speaker.values(), key=len, reverse=True)[:2]
    return [clip for clips in chosen for clip in clips.values()]


def _write_table(folder: Path) -> None:
    """Writes the clips of EMO-DB again, into a folder for each emotion, and `clips.csv`, which knows the speakers."""
    rows = []
    for number, path in enumerate(sorted((folder / "emodb").iterdir()), start=1):
        label = EMODB[path.stem[5]]
        (folder / "clips" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "clips" / label / f"{number:04}.wav")
        part = {"03": "test", "08": "test", "09": "dev", "10": "dev"}.get(path.stem[:2], "train")
        rows.append((f"clips/{label}/{number:04}.wav", label, path.stem[:2], part))
    with open(folder / "clips.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "split"), *rows])


def _encoders() -> dict[str, tuple[Any, Any]]:
    from transformers import (
        HubertConfig,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        WhisperConfig,
        WhisperFeatureExtractor,
    )

    waves = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 9}
    whisper = WhisperConfig(**sizes, **decoder, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    small = {key: value for key, value in SMALLEST.items() if key != "model_type"}
    return {
        "facebook/hubert-base-ls960": (HubertConfig(**small), waves),
        "facebook/wav2vec2-xls-r-300m": (Wav2Vec2Config(**small), waves),
        WHISPER: (whisper, WhisperFeatureExtractor(feature_size=80)),
    }


def save_encoder(folder: Path, config: Any, extractor: Any) -> None:
    """Saves an encoder of random weights as a pretrained one is saved."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    extractor.save_pretrained(folder)


def fill(hub: LoopbackHub, name: str, folder: Path) -> None:
    """Puts the files of a folder into a repository of the Hub."""
    files = {path.name: (path.read_bytes(), False) for path in folder.iterdir() if path.is_file()}
    repo = hub.repos["model", name] = Repo()
    repo.commit(files)


def environment(hub: LoopbackHub, home: Path) -> dict[str, str]:
    """What the commands run in: this Hub with a token, a cache of their own, and the programs of this Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST_"))}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }

"""Probing: the backbone run once over a corpus, its statistics kept, and a head trained on them in seconds."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers.modeling_outputs import SequenceClassifierOutput

from ser.data.augment import hash_of
from ser.data.batching import Clips, Draw, fill_by_duration

# Part of the cache's key: raise it when the same model and clips would give other statistics.
VERSION = 1
# Seconds of audio in a batch, padding counted. On a CPU, what fits the caches of the cores beats what fills memory.
BATCH_SECONDS = {"cpu": 16.0, "cuda": 256.0}


class Probe(nn.Module):
    """The part of a model behind its frozen backbone, as a module of its own: same weights, other input.

    Its checkpoints hold the head alone, and moving it to a GPU leaves the backbone where it is.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.config = model.config
        self.head = nn.ModuleDict({name: child for name, child in model.named_children() if name != "backbone"})
        if hasattr(model, "layer_weights"):
            self.layer_weights = model.layer_weights
        self._classify = model.classify

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer."""
        return self.head["classifier"]

    @property
    def base_model_prefix(self) -> str:
        return "backbone"

    def forward(self, statistics: torch.Tensor, labels: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Logits `[B, C]` from statistics `[B, L + 1, 2 D]`; `labels` is there for Trainer to find its name."""
        return SequenceClassifierOutput(logits=self._classify(statistics))


class Statistics(Dataset):
    """Cached statistics of clips in the place of their waves; it answers a trainer as [`Clips`] do.

    Args:
        clips: What the statistics are of.
        tables: `[N, L + 1, 2 D]` of the whole corpus, clean and of each augmented copy.
        places: Row of each of `clips` in the tables.
    """

    def __init__(self, clips: Clips, tables: list[np.ndarray], places: list[int]):
        self.rows, self.targets, self.ids = clips.rows, clips.targets, clips.ids
        self.seed, self.tables, self.places, self._clips = clips.seed, tables, places, clips

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draw: int | Draw) -> dict[str, Any]:
        row, copy = draw, 0
        if isinstance(draw, tuple):
            row, epoch, repeat = draw
            copy = hash_of((self.seed, epoch, self.ids[row], repeat)) % len(self.tables)
        return {"statistics": self.tables[copy][self.places[row]], "label": self.targets[row]}

    def lengths_seconds(self) -> np.ndarray:
        """Length of every clip, in seconds."""
        return self._clips.lengths_seconds()


def stack(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Collates [`Statistics`]."""
    labels = torch.as_tensor(np.asarray([example["label"] for example in examples]))
    return {
        "statistics": torch.from_numpy(np.stack([example["statistics"] for example in examples])),
        "labels": labels.float() if labels.is_floating_point() else labels.long(),
    }


def corpus_statistics(clips: Clips, model: Any, collator: Any, cache: Path, copies: int = 0) -> list[np.ndarray]:
    """Statistics of a whole corpus, from the cache, or computed and put there.

    Args:
        clips: Every clip of the corpus, whatever the split, so that all folds share one run of the backbone.
        model: Its backbone is run in evaluation mode.
        collator: As in training.
        cache: Folder of the cache.
        copies: Augmented copies of each clip, beside the clean one; what `clips.augment` makes of them.

    Returns:
        Tables `[N, L + 1, 2 D]`, float32: the clean one, then the copies.

    Raises:
        ValueError: Copies are asked for, and no augmentation.
    """
    if copies and clips.augment is None:
        raise ValueError("--probe_augmented_copies: there is nothing to augment with; give --augmentations.")
    # What the model does with the backbone's outputs is mixed in later, all but how much Whisper hears.
    weights = f"{_hash_of_weights(model.backbone)} {getattr(model.config, 'whisper_full_window', True)}"
    tables = []
    for copy in range(copies + 1):
        path = cache / "ser_probe" / f"{_key(clips, weights, collator, copy)}.npy"
        if not path.is_file():
            _write(path, _compute(clips, model, collator, copy))
        tables.append(np.load(path, mmap_mode="r"))
    return tables


def _compute(clips: Clips, model: Any, collator: Any, copy: int) -> np.ndarray:
    """Runs the backbone over every clip, shortest first, in batches filled by duration."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, was_training = model.to(device), model.training
    lengths, table = clips.lengths_seconds(), None
    batches = fill_by_duration(np.argsort(lengths, kind="stable"), lengths, BATCH_SECONDS[device.type])
    model.eval()
    with torch.inference_mode(), tqdm(total=len(clips), unit="clip", desc=f"backbone, copy {copy}") as progress:
        for rows in batches:
            batch = collator([clips[(int(row), -copy, 0)] if copy else clips[int(row)] for row in rows])
            batch = {name: values.to(device) for name, values in batch.items() if name != "labels"}
            values = model.layer_statistics(**batch).float().cpu().numpy()
            if table is None:
                table = np.empty((len(clips), *values.shape[1:]), np.float32)
            table[rows] = values
            progress.update(len(rows))
    model.train(was_training)
    return table


def _write(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.save(file, table)
    os.replace(partial, path)


def _key(clips: Clips, weights: str, collator: Any, copy: int) -> str:
    """Everything the statistics depend on: code, backbone, preprocessing, clips and, for a copy, how it was made."""
    digest = hashlib.sha256(f"{VERSION} {weights} {collator.feature_extractor.to_json_string()}".encode())
    for row in clips.rows:
        digest.update(hashlib.sha256(row["audio"]["bytes"]).digest())
    if copy:
        digest.update(repr((copy, clips.seed, clips.max_seconds, clips.augment.specification)).encode())
    return digest.hexdigest()[:32]


def _hash_of_weights(backbone: nn.Module) -> str:
    digest = hashlib.sha256(backbone.config.to_json_string(use_diff=False).encode())
    for name, weight in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""Statistics of a frozen backbone: computed once for a corpus, cached, and shared by all folds and seeds."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ser.cores import CORE_BATCH_SECONDS, map_on_cores
from ser.data.audio import SAMPLING_RATE_HZ
from ser.data.batching import Clips, fill_by_duration
from ser.data.statistics_cache import FOLDER, note_statistics
from ser.files import draft_of
from ser.progress import progress_of
from ser_model import MAX_WHOLE_SECONDS, most_seconds, windows_of

# Part of the cache key: raise it when the code gives other statistics for the same model and clips.
VERSION = 1
# Seconds of audio in a batch, padding counted.
BATCH_SECONDS = {"cpu": CORE_BATCH_SECONDS, "cuda": 256.0}
# Clips in one file of a pass that is under way: what a kill may lose.
SHARD_CLIPS = 32


class FrozenFeatures:
    """Statistics of every clip of a corpus, by id.

    Args:
        ids: Ids of the clips.
        tables: Arrays `[N, L + 1, 2 D]`: first of the original clips, then of each augmented copy.
    """

    def __init__(self, ids: Sequence[str], tables: list[np.ndarray]):
        self.tables = tables
        self._row_of = {clip: row for row, clip in enumerate(ids)}

    def of(self, ids: Sequence[str], copy: int = 0) -> torch.Tensor:
        """Statistics of clips `[len(ids), L + 1, 2 D]`; `copy` is 0 for the original clips."""
        return torch.from_numpy(np.ascontiguousarray(self.tables[copy][[self._row_of[clip] for clip in ids]]))

    @torch.inference_mode()
    def logits(self, model: Any, ids: Sequence[str]) -> np.ndarray:
        """Outputs of `model` for clips, from their statistics: `[len(ids), C]`, float32."""
        was_training = model.training
        model.eval()
        weight = model.classifier.weight
        found = [
            model.classify(self.of(ids[start : start + 256]).to(weight.device)).float().cpu()
            for start in range(0, len(ids), 256)
        ]
        model.train(was_training)
        return torch.cat(found).numpy() if found else np.zeros((0, weight.shape[0]), np.float32)


def corpus_statistics(
    clips: Clips, model: Any, collator: Any, cache: Path, copies: int = 0, encoder: str | None = None
) -> FrozenFeatures:
    """Statistics of a whole corpus, read from the cache or computed and written to it.

    Args:
        clips: All clips of the corpus, so that all folds share one pass of the backbone.
        model: The model whose backbone is run, in evaluation mode.
        collator: The collator of training.
        cache: Folder of the cache.
        copies: Number of copies of each clip that `clips.augment` makes, besides the original.
        encoder: Name of a pretrained encoder, written beside the statistics for those who look for them.

    Raises:
        ValueError: `copies` is above 0, but there is no augmentation.
    """
    if copies and clips.augment is None:
        raise ValueError("--probe_augmented_copies: needs --augmentations; give both.")
    # The head is no part of the key; only the window of Whisper changes the outputs of the backbone.
    weights = f"{_hash_of_weights(model.backbone)} {getattr(model.config, 'whisper_full_window', True)}"
    tables = []
    for copy in range(copies + 1):
        path = cache / FOLDER / f"{_key(clips, weights, collator, copy)}.npy"
        if not path.is_file():
            parts = path.with_suffix(".parts")
            _write(path, _compute(clips, model, collator, copy, parts))
            shutil.rmtree(parts, ignore_errors=True)
        if encoder and not copy:
            note_statistics(path, clips.rows, encoder)
        tables.append(np.load(path, mmap_mode="r"))
    return FrozenFeatures(clips.ids, tables)


def _compute(clips: Clips, model: Any, collator: Any, copy: int, parts: Path) -> np.ndarray:
    """Runs the backbone over all clips, the longest first, in batches filled by duration.

    What a killed pass left in the folder `parts` is read and not computed again. The batches are the same then, so
    that the statistics are equal to the bit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, was_training = model.to(device), model.training
    lengths, batch_seconds = clips.lengths_seconds(), BATCH_SECONDS[device.type]
    shards = list(_shards(fill_by_duration(np.argsort(lengths, kind="stable"), lengths, batch_seconds)[::-1]))
    paths = [parts / f"{device.type}-{batch_seconds:g}s-{number:06d}.npy" for number in range(len(shards))]
    there = [_read_shard(path, sum(map(len, shard))) is not None for path, shard in zip(paths, shards, strict=True)]
    batches = [batch for shard, is_there in zip(shards, there, strict=True) if not is_there for batch in shard]
    compute = partial(_statistics, clips, model, collator, copy)
    outputs = map_on_cores(compute, batches) if device.type == "cpu" else (compute(batch) for batch in batches)
    table: np.ndarray | None = None
    model.eval()
    with closing(outputs), progress_of(len(clips), "clip", f"backbone, copy {copy}") as progress:
        for path, shard, is_there in zip(paths, shards, there, strict=True):
            rows = [int(row) for batch in shard for row in batch]
            if not is_there:
                _write(path, np.concatenate([next(outputs) for _ in shard]))
            values = np.load(path)
            if table is None:
                table = np.empty((len(clips), *values.shape[1:]), np.float32)
            table[rows] = values
            progress.update(len(rows))
    model.train(was_training)
    if table is None:
        raise ValueError("There is no clip to compute statistics of.")
    return table


@torch.inference_mode()
def _statistics(clips: Clips, model: Any, collator: Any, copy: int, rows: Sequence[int]) -> np.ndarray:
    """Statistics of one batch, `[len(rows), L + 1, 2 D]`, float32."""
    examples = [clips[(int(row), -copy, 0)] if copy else clips[int(row)] for row in rows]
    most = _most_samples(collator)
    if all(len(example["wave"]) <= most for example in examples):
        return _statistics_of(examples, model, collator)
    return np.stack([_of_long(example["wave"], model, collator, most) for example in examples])


def _statistics_of(examples: list[dict[str, Any]], model: Any, collator: Any) -> np.ndarray:
    batch, device = collator(examples), next(model.parameters()).device
    batch = {name: values.to(device) for name, values in batch.items() if name != "labels"}
    return model.layer_statistics(**batch).float().cpu().numpy()


def _of_long(wave: np.ndarray, model: Any, collator: Any, most: int) -> np.ndarray:
    """Statistics `[L + 1, 2 D]` of a clip in pieces of `most` samples: the mean of their means, and the deviation by
    the law of total variance. The memory for a clip does not grow with its length."""
    pieces = [wave] if len(wave) <= most else [piece for _, piece, _ in windows_of(iter([wave]), most, most)]
    found = [_statistics_of([{"wave": piece, "label": 0}], model, collator)[0] for piece in pieces]
    means, deviations = np.split(np.asarray(found, np.float64), 2, axis=-1)  # [W, L + 1, D]
    mean, square = means.mean(axis=0), (np.square(deviations) + np.square(means)).mean(axis=0)
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0)) if len(pieces) > 1 else deviations[0]
    return np.concatenate([mean, deviation], axis=-1).astype(np.float32)


def _most_samples(collator: Any) -> int:
    extractor = collator.feature_extractor
    return int(min(MAX_WHOLE_SECONDS, most_seconds(extractor)) * extractor.sampling_rate)


def _shards(batches: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Groups of batches with `SHARD_CLIPS` clips or more each, but for the last."""
    group: list[Sequence[int]] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= SHARD_CLIPS:
            yield group
            group = []
    if group:
        yield group


def _read_shard(path: Path, count: int) -> np.ndarray | None:
    """Statistics that an earlier pass wrote; None if there are none, or not of `count` clips."""
    try:
        values = np.load(path)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return values if len(values) == count else None


def _write(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(path) as draft, draft.open("wb") as file:
        np.save(file, table)


def _key(clips: Clips, weights: str, collator: Any, copy: int) -> str:
    """A hash of everything that the statistics depend on: code, backbone, preprocessing, clips and augmentation."""
    digest = hashlib.sha256(f"{VERSION} {weights} {collator.feature_extractor.to_json_string()}".encode())
    for row in clips.rows:
        digest.update(hashlib.sha256(row["audio"]["bytes"]).digest())
    if (most := _most_samples(collator)) < SAMPLING_RATE_HZ * max(clips.durations, default=0.0):
        digest.update(f"in pieces of {most}".encode())
    if copy and clips.augment is not None:
        digest.update(repr((copy, clips.seed, clips.max_seconds, clips.augment.specification)).encode())
    return digest.hexdigest()[:32]


def _hash_of_weights(backbone: nn.Module) -> str:
    digest = hashlib.sha256(backbone.config.to_json_string(use_diff=False).encode())
    for name, weight in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

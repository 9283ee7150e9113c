"""From a prepared corpus to batches: which clips together, in which order, and how they are padded."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ser.data.audio import SAMPLING_RATE_HZ, clip_wave, undecoded
from ser.data.augment import Augment, hash_of

# A clip as a training batch asks for it: its row, the epoch, and how often the epoch has drawn it before.
Draw = tuple[int, int, int]
# Clips are sorted by length within shuffled chunks of this many: long enough to pad little, short enough to mix.
_CHUNK = 1000


class Clips(Dataset):
    """The clips of a corpus as waves and labels, read from its stored WAV bytes, augmented where asked.

    Args:
        dataset: Prepared corpus.
        targets: One class number, or one list of values, for each row.
        augment: From `build_augmentation`; used only on rows asked for as [`Draw`].
        seed: Part of the key that augmentation is drawn from.
        max_seconds: Longer clips are cropped to this, at a start drawn from the same key; only for a [`Draw`].
    """

    def __init__(
        self,
        dataset: Any,
        targets: Sequence[Any],
        augment: Augment | None = None,
        seed: int = 0,
        max_seconds: float | None = None,
    ):
        self.rows, self.targets = undecoded(dataset), targets
        self.ids, self.durations = dataset["id"][:], dataset["duration"][:]
        self.augment, self.seed, self.max_seconds = augment, seed, max_seconds

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draw: int | Draw) -> dict[str, Any]:
        if not isinstance(draw, tuple):
            return {"wave": clip_wave(self.rows[int(draw)]), "label": self.targets[int(draw)]}
        row, epoch, repeat = draw
        wave, key = clip_wave(self.rows[row]), (self.seed, epoch, self.ids[row], repeat)
        if self.max_seconds is not None:
            wave = _crop(wave, int(self.max_seconds * SAMPLING_RATE_HZ), key)
        if self.augment is not None:
            wave = self.augment(wave, key)
        return {"wave": wave, "label": self.targets[row], "key": key}

    def lengths_seconds(self) -> np.ndarray:
        """Length of every clip as training sees it, in seconds."""
        durations = np.asarray(self.durations, dtype=np.float64)
        return durations if self.max_seconds is None else np.minimum(durations, self.max_seconds)


def _crop(wave: np.ndarray, length: int, key: tuple) -> np.ndarray:
    if len(wave) <= length:
        return wave
    generator = np.random.default_rng(hash_of(key))
    start = int(generator.integers(0, len(wave) - length + 1))
    return wave[start : start + length]


class Collator:
    """Makes the model's inputs from waves, as prediction does, and stacks the labels.

    Clips are padded to the longest of the batch. Whisper's log-mel features see 12 ms beyond a clip, and its window is
    always 30 s: each clip is padded with silence to the whole window, so that its features depend on no other clip.
    Audio beyond the window is left out.

    Args:
        feature_extractor: The model's own; it normalises or makes log-mel features, pads and masks.
    """

    def __init__(self, feature_extractor: Any):
        self.feature_extractor = feature_extractor

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        batch = self.feature_extractor(
            [example["wave"] for example in examples],
            sampling_rate=SAMPLING_RATE_HZ,
            padding="max_length" if hasattr(self.feature_extractor, "chunk_length") else True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        labels = torch.as_tensor(np.asarray([example["label"] for example in examples]))
        return {**batch, "labels": labels.float() if labels.is_floating_point() else labels.long()}


class EpochBatches(Sampler[list[Draw]]):
    """The batches of each epoch, for one process: the same for the same seed and epoch, also after a resume.

    Every process gets as many batches as every other, and the same number in every epoch. No batch exceeds
    `batch_seconds`, except one that holds a single clip. Without `weights`, each clip comes exactly once.

    Args:
        lengths_seconds: Length of each clip.
        batch_size: Clips in a batch, when `batch_seconds` is 0.
        batch_seconds: Seconds in a batch, padding counted; batches are then filled with clips of like length.
        seed: Of the order.
        by_length: Whether batches of `batch_size` are filled with clips of like length.
        weights: Relative probability of each clip, drawn with replacement; None: each clip once an epoch.
    """

    def __init__(
        self,
        lengths_seconds: np.ndarray,
        batch_size: int,
        batch_seconds: float = 0.0,
        seed: int = 0,
        by_length: bool = False,
        weights: np.ndarray | None = None,
    ):
        self.lengths, self.batch_size, self.batch_seconds = np.asarray(lengths_seconds), batch_size, batch_seconds
        self.seed, self.by_length, self.weights = seed, by_length or batch_seconds > 0, weights
        self.epoch, self.process, self.num_processes = 0, 0, 1
        self._count: int | None = None

    def on_process(self, process: int, num_processes: int) -> "EpochBatches":
        """Restricts this sampler to the batches of one of `num_processes`."""
        self.process, self.num_processes, self._count = process, num_processes, None
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose batches are iterated over."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self._count is None:  # epoch 0 sets the number for all
            batches = len(self._batches(0))
            self._count = max(1, -(-batches // self.num_processes))
        return self._count

    def __iter__(self) -> Iterator[list[Draw]]:
        batches = split_to_number(self._at_most(len(self) * self.num_processes), len(self) * self.num_processes)
        seen: dict[int, int] = {}
        for index, batch in enumerate(batches):
            draws = []
            for row in batch:
                draws.append((int(row), self.epoch, seen.get(row, 0)))
                seen[row] = seen.get(row, 0) + 1
            if index % self.num_processes == self.process:
                yield draws

    def _batches(self, epoch: int) -> list[list[int]]:
        generator = np.random.default_rng((self.seed, epoch))
        count = len(self.lengths)
        if self.weights is None:
            order = generator.permutation(count)
        else:
            order = generator.choice(count, count, p=np.asarray(self.weights) / np.sum(self.weights))
        if not self.by_length:
            return [list(order[i : i + self.batch_size]) for i in range(0, count, self.batch_size)]
        chunks = [order[i : i + _CHUNK] for i in range(0, count, _CHUNK)]
        batches = [batch for chunk in chunks for batch in self._filled(chunk)]
        return [batches[index] for index in generator.permutation(len(batches))]

    def _at_most(self, count: int) -> list[list[int]]:
        """At most `count` batches for the epoch; without a limit, batches filled by seconds vary in number."""
        batches = self._batches(self.epoch)
        if len(batches) <= count:
            return batches
        if self.weights is not None:
            return batches[:count]  # draws are random and with replacement: a few fewer of them change nothing
        # Filled from the longest clip on over the whole corpus, batches are as few as they can be, so no more than in
        # epoch 0.
        generator = np.random.default_rng((self.seed, self.epoch, 1))
        order = generator.permutation(len(self.lengths))
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        batches = fill_by_duration(order, self.lengths, self.batch_seconds)
        return [batches[index] for index in generator.permutation(len(batches))]

    def _filled(self, chunk: np.ndarray) -> list[list[int]]:
        order = chunk[np.argsort(self.lengths[chunk], kind="stable")]
        if self.batch_seconds <= 0:
            return [list(order[i : i + self.batch_size]) for i in range(0, len(order), self.batch_size)]
        return fill_by_duration(order, self.lengths, self.batch_seconds)


def fill_by_duration(
    order: np.ndarray, lengths_seconds: np.ndarray, batch_seconds: float, most_clips: int | None = None
) -> list[list[int]]:
    """Cuts rows sorted by length into batches of at most `batch_seconds`, padding counted; one clip at least.

    Args:
        most_clips: Most clips in a batch; None: any number.
    """
    batches: list[list[int]] = []
    longest = 0.0
    for row in order:
        longest = max(longest, lengths_seconds[row])
        count = len(batches[-1]) + 1 if batches else 0
        if batches and count * longest <= batch_seconds and (most_clips is None or count <= most_clips):
            batches[-1].append(row)
        else:
            batches.append([row])
            longest = lengths_seconds[row]
    return batches


def split_to_number(batches: list[list[int]], count: int) -> list[list[int]]:
    """Splits the largest of at most `count` batches until there are `count`: DDP waits for equal numbers.

    Raises:
        ValueError: There are fewer rows than `count`.
    """
    rows = sum(len(batch) for batch in batches)
    if rows < count:
        raise ValueError(f"train: {rows} clips cannot be shared by {count} processes; start at most {rows}.")
    batches = [list(batch) for batch in batches]
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        half = len(batches[largest]) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return batches

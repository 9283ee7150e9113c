"""Clips as the pipeline scores them: a long one in windows, whose scores are averaged over sound."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ser.data.audio import SAMPLING_RATE_HZ, clip_wave
from ser.data.batching import Clips, Collator, fill_by_duration
from ser_model import Cutting, SERConfig, mean_over_sound, metered, sounding, usual_cutting

# A batch of dev or test holds at most this many seconds for each clip that --per_device_eval_batch_size allows.
SECONDS_PER_CLIP = 15.0
_BATCH_SECONDS = 64.0


def cutting_of(model: Any, feature_extractor: Any) -> Cutting | None:
    """How the pipeline of `model` cuts long clips; None for a stock model, whose pipeline never cuts."""
    is_ours = model.config.model_type == SERConfig.model_type
    return usual_cutting(model.config, feature_extractor) if is_ours else None


class ScoredClips(Dataset):
    """The parts of clips that a model scores: whole clips, and the windows of long ones.

    Args:
        clips: Clips of dev or test.
        cutting: From [`cutting_of`].
    """

    def __init__(self, clips: Clips, cutting: Cutting | None):
        self.clips, self.cutting = clips, cutting
        samples = np.rint(np.asarray(clips.durations) * SAMPLING_RATE_HZ).astype(int)
        counts = [_num_pieces(length, cutting) for length in samples]
        self.rows = np.repeat(np.arange(len(counts)), counts)
        self.numbers = np.concatenate([np.arange(count) for count in counts]) if counts else np.zeros(0, int)
        lengths = [
            length if cutting is None or count == 1 else cutting.grid.size
            for length, count in zip(samples, counts, strict=True)
        ]
        self.lengths_seconds = np.repeat(np.asarray(lengths, float), counts) / SAMPLING_RATE_HZ
        self.long_rows = np.flatnonzero(np.asarray(counts) > 1)
        self._pieces: tuple[int, list[np.ndarray]] = (-1, [])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self.rows[index])
        if row != self._pieces[0]:  # the windows of a clip follow each other
            self._pieces = row, pieces_of(self.wave(row), self.cutting)
        return {"wave": self._pieces[1][self.numbers[index]], "label": self.clips.targets[row]}

    def wave(self, row: int) -> np.ndarray:
        """The wave `[T]` of a whole clip."""
        return clip_wave(self.clips.rows[row])

    def joined(self, values: np.ndarray, is_regression: bool) -> np.ndarray:
        """Outputs of the clips, `[N, C]`, from those of the parts, `[P, C]`."""
        first = np.searchsorted(self.rows, np.arange(len(self.clips)))
        if self.cutting is None or not len(self.long_rows):
            return values
        outputs = values[first].astype(np.float64)
        for row in self.long_rows.tolist():
            outputs[row] = joined(values[self.rows == row], self.wave(row), self.cutting, is_regression)
        return outputs


def batches_of_process(lengths_seconds: np.ndarray, args: Any) -> list[list[int]]:
    """The batches of dev or test that one process scores: as many as every other process has.

    Args:
        lengths_seconds: Length of each part.
        args: `TrainingArguments` with `batch_seconds`.
    """
    most_seconds = max(args.batch_seconds, SECONDS_PER_CLIP * args.eval_batch_size)
    batches = batches_of(lengths_seconds, args.eval_batch_size, most_seconds)
    shares = [batches[process :: args.world_size] for process in range(args.world_size)]
    # A part that two processes score gets the same outputs from both.
    return (shares[args.process_index] + batches[:1])[: len(shares[0])]


def batches_of(lengths_seconds: np.ndarray, most_clips: int, most_seconds: float) -> list[list[int]]:
    """Batches of parts of like length, the longest first, so that too little memory shows at the start."""
    order = np.argsort(-lengths_seconds, kind="stable")
    return fill_by_duration(order, lengths_seconds, most_seconds, most_clips)


def pieces_of(wave: np.ndarray, cutting: Cutting | None) -> list[np.ndarray]:
    """The whole wave, or its windows."""
    return [wave] if cutting is None else [piece for _, piece, _ in cutting.pieces(iter([wave]))]


def joined(values: np.ndarray, wave: np.ndarray, cutting: Cutting, is_regression: bool) -> np.ndarray:
    """Outputs `[C]` of a long clip from those of its windows `[W, C]`: the logarithm of the pipeline's mean
    probabilities, or the mean values of a regression."""
    starts = np.array([start for start, _, _ in cutting.pieces(iter([wave]))])
    levels: list[float] = []
    for _ in metered(iter([wave]), cutting.grid.frame, levels):
        pass
    sound = sounding(np.asarray(levels), cutting.grid.frames_in_pause)
    if not sound.any():
        sound[:] = True
    scores = torch.from_numpy(np.asarray(values, np.float64))
    scores = (scores if is_regression else scores.softmax(-1)).numpy()
    mean = mean_over_sound(scores, starts, cutting.grid, sound, len(wave))
    return mean if is_regression else np.log(np.maximum(mean, 1e-300))


@torch.inference_mode()
def outputs_of_waves(
    model: Any, collator: Collator, waves: Iterable[np.ndarray], cutting: Cutting | None
) -> np.ndarray:
    """Outputs `[N, C]` of a model for waves, as its pipeline gives them, in batches of at most 64 s.

    A stock model, whose scores depend on the batch, gets one wave at a time.
    """
    was_training = model.training
    model.eval()
    waves, device = list(waves), next(model.parameters()).device
    pieces = [(row, piece) for row, wave in enumerate(waves) for piece in pieces_of(wave, cutting)]
    lengths = np.array([len(piece) for _, piece in pieces]) / SAMPLING_RATE_HZ
    values: list[Any] = [None] * len(pieces)
    for batch in batches_of(lengths, 1 if cutting is None else len(pieces), _BATCH_SECONDS):
        inputs = collator([{"wave": pieces[index][1], "label": 0} for index in batch])
        del inputs["labels"]
        logits = model(**{name: value.to(device) for name, value in inputs.items()}).logits.float().cpu().numpy()
        for index, logit in zip(batch, logits, strict=True):
            values[index] = logit
    model.train(was_training)
    is_regression = model.config.problem_type == "regression"
    return np.stack(
        [_output([v for v, (r, _) in zip(values, pieces, strict=True) if r == row], wave, cutting, is_regression)
         for row, wave in enumerate(waves)]
    )  # fmt: skip


def _output(values: Sequence[np.ndarray], wave: np.ndarray, cutting: Cutting | None, is_regression: bool) -> np.ndarray:
    return values[0] if cutting is None or len(values) == 1 else joined(np.stack(values), wave, cutting, is_regression)


def _num_pieces(length: int, cutting: Cutting | None) -> int:
    if cutting is None or length <= cutting.longest:
        return 1
    return 1 + -(-(length - cutting.grid.size) // cutting.grid.hop)

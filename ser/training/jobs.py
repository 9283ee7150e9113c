"""A job: the arguments, folder and clips of one run."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.augment import build_augmentation, hash_of
from ser.data.batching import Clips
from ser.data.data_arguments import DataArguments
from ser.data.splits import Split, check_split, make_split, num_folds_of
from ser.run_folder import CHECKPOINTS, fold_folder
from ser.training.arguments import ModelArguments, SERTrainingArguments, merged_arguments


@dataclass(frozen=True)
class Job:
    """One run: its arguments, folder, seed and fold; fold -1 means several folds.

    `share` is the share of the way to the fine-tuned weights if there is no dev set, see `ser.training.finetune`.
    """

    model: ModelArguments
    data: DataArguments
    training: SERTrainingArguments
    folder: Path
    seed: int
    fold: int
    share: float | None = None

    def arguments(self) -> dict[str, Any]:
        """The merged arguments, as written to `run_config.yaml`."""
        merged = merged_arguments(self.model, self.data, self.training)
        if self.fold < 0:
            return merged
        merged |= {"seed": self.seed, "fold": str(self.fold)}
        return {key: value for key, value in merged.items() if key != "seeds"}

    @property
    def is_one_of_many(self) -> bool:
        """Whether the results of this run are pooled with those of other folds or seeds."""
        return self.fold >= 0 and self.folder != Path(self.training.output_dir)

    def training_arguments(self) -> SERTrainingArguments:
        """The arguments for the Trainer, which writes to the folder of checkpoints."""
        args = copy.deepcopy(self.training)
        args.seed, args.output_dir = self.seed, str(self.folder / CHECKPOINTS)
        if self.model.head == "stock":
            args.per_device_eval_batch_size = 1  # its scores depend on padding; users score one clip at a time
        args.hub_token = None  # each checkpoint holds these arguments
        args.push_to_hub = False  # checkpoints are never pushed; `push_run` checks and pushes the finished run
        if self.data.target_columns and args.metric_for_best_model in ("uar", "eval_uar"):
            args.metric_for_best_model = "ccc"
        return args

    def at(self, folder: Path, seed: int, fold: int) -> "Job":
        """A copy with another folder, seed and fold."""
        return replace(self, folder=folder, seed=seed, fold=fold)

    def labels(self, dataset: Any) -> list[str]:
        """Names of the classes, or of the dimensions of a regression."""
        return self.data.parsed_target_columns() or dataset.features["emotion"].names


def jobs_of(whole: Job, dataset: Any) -> list[Job]:
    """The runs of `--fold` and `--seeds`: one run in the output folder itself, or several in folders below it."""
    fold, seeds = whole.data.fold, whole.training.seed_list()
    if fold != "all" and not fold.isdigit():
        raise ValueError(f"--fold: {fold!r} is neither a number from 0 nor all.")
    if fold == "all" and whole.data.protocol == "train_on_one_corpus":
        raise ValueError(
            "--fold all: train_on_one_corpus tests every clip once for each other corpus, which cannot be pooled. Give "
            "one fold, or make the table of all corpora with: ser cross CONFIG"
        )
    if whole.training.final_fit and fold != "all":
        raise ValueError(f"--final_fit: needs --fold all, whose models calibrate the final one; --fold is {fold}.")
    if whole.training.final_fit and not (whole.training.do_train and whole.training.do_predict):
        raise ValueError(
            "--final_fit: needs --do_train true and --do_predict true; the folds' test clips calibrate it."
        )
    folds = range(num_folds_of(whole.data.protocol, dataset, whole.data.num_folds)) if fold == "all" else [int(fold)]
    if fold != "all" and len(seeds) == 1:
        return [whole.at(whole.folder, seeds[0], int(fold))]
    return [whole.at(fold_folder(whole.folder, seed, k), seed, k) for seed in seeds for k in folds]


def split_of(job: Job, dataset: Any) -> Split:
    """Makes the split of the arguments and checks it for leaks."""
    data = job.data
    split = make_split(dataset, data.protocol, job.fold, data.num_folds, data.split_seed, data.splits_file)
    check_split(split, dataset, data.accept_speaker_leakage, data.accept_near_copies)
    return split


def check_splits(jobs: Sequence[Job], dataset: Any) -> None:
    """Makes the split of every run, so that an impossible fold is found before any training.

    Raises:
        ValueError: A split cannot be made, or has a leak; see `make_split` and `check_split`.
    """
    for job in {job.fold: job for job in jobs}.values():
        split_of(job, dataset)


def part_clips(job: Job, dataset: Any, split: Split, part: str) -> Clips:
    """The clips of one part of the split; dev and test are sorted, the longest first, which needs least padding."""
    row_of = {clip: row for row, clip in enumerate(dataset["id"][:])}
    rows, durations = [row_of[clip] for clip in getattr(split, part)], dataset["duration"][:]
    if part != "train":
        rows.sort(key=lambda row: -durations[row])
    rows = dataset.select(rows)
    targets = targets_of(job, rows)
    if part != "train":
        return Clips(rows, targets)
    if job.model.shuffle_train_labels:
        order = np.random.default_rng(hash_of(("labels", job.seed, job.fold))).permutation(len(rows))
        targets = np.asarray(targets)[order]
    return Clips(rows, targets, build_augmentation(job.data.augmentations), job.seed, job.data.max_train_seconds)


def targets_of(job: Job, rows: Any) -> Any:
    """Class indices `[N]`, or the values `[N, D]` of a regression."""
    columns = job.data.parsed_target_columns()
    return (
        np.stack([np.asarray(rows[name][:], np.float32) for name in columns], axis=1) if columns else rows["emotion"][:]
    )

"""Trains the model of one split, by fine-tuning or on frozen statistics, for one fold or for all clips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from ser.data.audio import corpus_facts
from ser.data.batching import Clips, Collator
from ser.data.splits import Split, split_hash
from ser.data.summary import long_clips_words
from ser.files import write_json
from ser.predictions import read_predictions, test_rows
from ser.run_folder import read_log, read_results
from ser.training.arguments import ModelArguments
from ser.training.checkpoints import checkpoint_to_continue
from ser.training.compiled import compile_layers
from ser.training.finetune import finetune
from ser.training.freezing import freeze
from ser.training.frozen_head import FrozenHeads, starts_from_probe
from ser.training.jobs import Job
from ser.training.lora import merge_lora
from ser.training.models import new_model, trained_model
from ser.training.scored_clips import ScoredClips, cutting_of
from ser.training.temperature import calibrate, uncalibrated
from ser.training.trackers import write_events_into
from ser.training.trainer import SERTrainer
from ser_model import MAX_WHOLE_SECONDS, Cutting, most_seconds

logger = logging.get_logger(__name__)
# Number of clips whose predictions are kept for the model of all clips, to check an upload or an export.
FINAL_CLIPS = 200


@dataclass(frozen=True)
class Outputs:
    """Outputs of a model for clips, logits `[N, C]` or values `[N, D]`, and their targets.

    A long clip is scored in windows, as the pipeline does it; its logits are the logarithm of the mean probabilities.
    """

    compute: Callable[[Clips], tuple[np.ndarray, np.ndarray]]
    cutting: Cutting | None
    # What trained the model; None if only a head was fitted.
    trainer: SERTrainer | None = None

    def __call__(self, clips: Clips) -> tuple[np.ndarray, np.ndarray]:
        return self.compute(clips)

    def are_cut(self, clips: Clips) -> bool:
        """Whether one of the clips is scored in windows."""
        return len(ScoredClips(clips, self.cutting).long_rows) > 0


def make_model(
    job: Job, labels: list[str], split: Split, parts: Mapping[str, Clips], heads: FrozenHeads
) -> tuple[Any, Any, Outputs, dict[str, Any]]:
    """Makes the model of a run: trains it on `parts["train"]`, chooses checkpoints on `parts["dev"]`.

    Returns:
        The model, its feature extractor, a function from clips to outputs, and facts: `trainable`, the number of
        trained weights, and the sections `head` and `start` of `results.json` (None if they do not apply).
    """
    args, train, dev = job.training_arguments(), parts["train"], parts["dev"]
    if not args.do_train:
        model, feature_extractor = trained_model(job, split, labels, corpus_facts(dev.rows)["name"])
        trainer = _trainer(job, model, labels, Collator(feature_extractor), eval_dataset=dev)
        return model, feature_extractor, _outputs_by(trainer), {"trainable": 0, "head": None, "start": None}
    model, feature_extractor = new_model(job, labels)
    collator, head, start = Collator(feature_extractor), None, None
    hear_at_most(train, most_seconds(feature_extractor), heads.dataset)
    if starts_from_probe(job.model, getattr(model, "continues_head", False)):
        with args.main_process_first(desc="statistics of the backbone"):
            heads.prepare(job, model, collator)
        head = heads.fit(job, model, split, train)
    trainable = freeze(model, job.model)
    if job.model.head != "stock":
        model.config.window_seconds = max(0.5, round(float(np.median(train.lengths_seconds())), 1))
    if job.model.train_mode == "probe":
        outputs_of = Outputs(heads.outputs_by(job, model, collator), cutting_of(model, feature_extractor))
    else:
        trainer = _trainer(job, model, labels, collator, train_dataset=train, eval_dataset=dev)
        if args.torch_compile:
            compile_layers(model)
        checkpoint = checkpoint_to_continue(job.folder, job.training.resume_from_checkpoint)
        start = finetune(trainer, checkpoint, keeps_start=head is not None, share=job.share)
        if job.model.lora_rank:
            merge_lora(model)
        if args.should_save:
            write_json(trainer.state.log_history, job.folder / "training_log.json")
        outputs_of = _outputs_by(trainer)
    if job.model.head != "stock":
        model.cut_off_unused_layers()
    return model, feature_extractor, outputs_of, {"trainable": trainable, "head": head, "start": start}


def _trainer(job: Job, model: Any, labels: list[str], collator: Collator, **datasets: Clips) -> SERTrainer:
    trainer = SERTrainer(model, job.training_arguments(), job.model, labels, collator, **datasets)
    write_events_into(trainer.callback_handler.callbacks, job.folder)
    return trainer


def _outputs_by(trainer: SERTrainer) -> Outputs:
    def outputs_of(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
        output = trainer.predict_exactly(clips)
        return output.predictions, output.label_ids

    return Outputs(outputs_of, cutting_of(trainer.model, trainer.data_collator.feature_extractor), trainer)


def hear_at_most(train: Clips, most: float, dataset: Any) -> None:
    """Sets the length to which training clips are cropped: --max_train_seconds, 60 s, or what the model takes.

    It warns of long clips in `dataset` if the model takes less than [`load_corpus`] supposes.
    """
    given = MAX_WHOLE_SECONDS if train.max_seconds is None else train.max_seconds
    train.max_seconds = min(given, most)
    if most < MAX_WHOLE_SECONDS and (words := long_clips_words(dataset["id"][:], dataset["duration"][:], most)):
        logger.warning_once(words)


def final_job(whole: Job, folders: list[Path]) -> Job:
    """The run that trains on all clips after the folds, for the median of their best epochs."""
    training = replace_in(whole.training, do_eval=False, eval_strategy="no", load_best_model_at_end=False)
    share = None
    if whole.model.train_mode == "finetune":
        metric = str(whole.training_arguments().metric_for_best_model)
        epochs = [_best_epoch(folder, metric) for folder in folders]
        training = replace_in(training, num_train_epochs=float(np.median(epochs)), max_steps=-1)
        shares = [share for folder in folders if (share := read_start(folder).get("share")) is not None]
        share = float(np.mean(shares)) if shares else None
        if share == 0.0:  # every fold kept its first head
            whole = replace(whole, model=replace_in(whole.model, train_mode="probe"))
    return replace(whole, training=training, seed=whole.training.seed_list()[0], share=share)


def replace_in(arguments: Any, **changes: Any) -> Any:
    """A copy with other values; `dataclasses.replace` would set up the devices once more."""
    import copy

    changed = copy.copy(arguments)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def whole_split(dataset: Any, job: Job) -> Split:
    """Every clip in train; nothing is left to score."""
    ids = tuple(sorted(dataset["id"][:]))
    split = Split(job.data.protocol, -1, job.data.split_seed, False, ids, (), (), sha256="")
    return replace(split, sha256=split_hash(split))


def few_clips(dataset: Any) -> tuple[str, ...]:
    """Ids of `FINAL_CLIPS` clips, or of all where there are fewer, evenly from the shortest to the longest."""
    order = np.argsort(dataset["duration"], kind="stable")
    indices = np.linspace(0, len(order) - 1, min(FINAL_CLIPS, len(order))).round().astype(int)
    return tuple(dataset["id"][row] for row in order[indices].tolist())


def calibrate_out_of_fold(
    model: Any, folders: list[Path], labels: list[str], arguments: ModelArguments
) -> dict[str, Any]:
    """Calibrates a model of all clips with the test predictions of the folds.

    The test logits of the folds replace its own: each fold was trained on most of the same clips. The written
    probabilities include the calibration of the fold, which is removed first.
    """
    logits, truth = [], []
    for folder in folders:
        table = test_rows(read_predictions(folder))
        results = read_results(folder)
        probabilities = table[[f"p_{name}" for name in labels]].to_numpy()
        logits.append(uncalibrated(probabilities, results.get("calibration", {}), labels))
        truth.append(np.array([labels.index(name) for name in table["truth"]]))
    return calibrate(model, np.concatenate(logits), np.concatenate(truth), labels, arguments)[1]


def read_start(folder: Path) -> dict[str, Any]:
    """The section `start` of a run's results; empty if there was no choice."""
    return read_results(folder).get("start") or {}


def _best_epoch(folder: Path, metric: str) -> float:
    """The epoch whose weights a run used; the last one if dev was not scored."""
    log, metric = read_log(folder), f"eval_{metric.removeprefix('eval_')}"
    scored = [entry for entry in log if metric in entry]
    best = min if metric.endswith("loss") else max
    return float(best(scored, key=lambda entry: entry[metric])["epoch"] if scored else log[-1]["epoch"])

"""The Trainer of transformers with the batches, losses and learning rates of this project."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from ser.data.batching import EpochBatches
from ser.evaluation.metrics import score_regression
from ser.evaluation.trainer_metrics import UAR, Accuracy, MacroF1
from ser.training.arguments import ModelArguments, SERTrainingArguments
from ser.training.balance import balancing, draw_weights, drawn_classes
from ser.training.checkpoints import SEAL, seal
from ser.training.data_wait import DataWait
from ser.training.learning_rates import parameter_groups
from ser.training.losses import build_loss, concordance_loss
from ser.training.mixup import BalancedMixup
from ser.training.progress import print_lines
from ser.training.scored_clips import ScoredClips, batches_of_process, cutting_of
from ser.training.served import served_counts
from ser.training.signals import Stopped, received


class SERTrainer(Trainer):
    """Trains and scores a model on clips.

    Args:
        labels: Names of the classes, or of the dimensions of a regression.
        model_arguments: Loss, mixup, sampler and learning rates.
        collator: Makes batches of examples.
        datasets: `train_dataset` and `eval_dataset`, each [`Clips`].
    """

    def __init__(
        self,
        model: Any,
        args: SERTrainingArguments,
        model_arguments: ModelArguments,
        labels: list[str],
        collator: Any,
        **datasets: Any,
    ):
        self.model_arguments, self.labels = model_arguments, labels
        self.is_regression = model.config.problem_type == "regression"
        if model_arguments.mixup_alpha > 0 and model.main_input_name != "input_values":
            raise ValueError("--mixup_alpha: mixes waves, but this backbone takes spectral features; set it to 0.")
        train = datasets.get("train_dataset")
        self.class_loss = None
        if train is not None and not self.is_regression:
            self.class_counts = count_classes(train.targets, len(labels))
            self.drawn_counts = drawn_classes(balancing(model_arguments), train.targets, train.rows, len(labels))
            rows = ([row for row, *_ in batch] for batch in self._batches_of(train, args))
            served = served_counts(self.drawn_counts, train.targets, rows, model_arguments.mixup_alpha)
            self.class_loss = build_loss(model_arguments, served, args.label_smoothing_factor)
        # Without dev scores, early stopping has nothing to compare.
        patience = args.early_stopping_patience if args.eval_strategy != "no" else 0
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            # With this argument Trainer counts the clips of all accumulated batches and processes; the loss itself is
            # computed in `compute_loss` below.
            compute_loss_func=lambda *_, **__: None,
            callbacks=[EarlyStoppingCallback(patience)] if patience else None,
            **datasets,
        )
        print_lines(self)
        self.loss_is_scaled_for_ga = True
        self._last_step, self._micro_step, self._epoch_end_step = -1, 0, -1
        self._data_wait = DataWait()
        # Ids of the clips that are trained on, for the words of an error.
        self.batch: Sequence[str] = ()

    def predict_exactly(self, clips: Any) -> Any:
        """As `predict`, but in float32, as the saved model is used, also where training is in half precision."""
        accelerator, half = self.accelerator, self.accelerator.native_amp
        accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        accelerator.native_amp = False
        try:
            return self.predict(clips)
        finally:
            accelerator.native_amp = half

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        """As in Trainer; measures how long training waits for its batches."""
        with self._data_wait.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As in Trainer; adds `data_wait`, the share of the time since the last entry that was spent on waiting."""
        if "loss" in logs:
            logs["data_wait"] = self._data_wait.share()
        super().log(logs, *args, **kwargs)

    def metrics_of(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Metrics of dev, for the log and the choice of the best checkpoint."""
        truth = torch.from_numpy(targets)
        if not self.is_regression:
            truth = torch.nn.functional.one_hot(truth, len(self.labels)).float()
        loss = {"loss": float(self._losses(torch.from_numpy(outputs).float(), truth).mean())}
        if self.is_regression:
            return loss | {"ccc": score_regression(targets, outputs, self.labels)["ccc"]}
        given = {"predictions": outputs.argmax(axis=-1), "references": targets}
        kinds = (kind(num_classes=len(self.labels)) for kind in (UAR, Accuracy, MacroF1))
        return loss | {name: value for kind in kinds for name, value in kind.compute(**given).items()}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the losses of the clips, divided by the number of clips of the step on all processes and batches.

        One batch of 8, two accumulated batches of 4 and two processes of 4 then give the same gradient.
        """
        self.batch = inputs.pop("clips", ())
        targets = labels = inputs.pop("labels")
        if not self.is_regression:
            targets = torch.nn.functional.one_hot(labels, len(self.labels)).float()
            if model.training and self.model_arguments.mixup_alpha > 0:
                inputs, targets = self._mixup(inputs, targets)
        outputs = model(**inputs)
        losses = self._losses(outputs.logits, targets)
        if model.training and not bool(torch.isfinite(losses).all()):
            raise self._not_finite(f"the loss is not finite; its batch held {', '.join(self.batch)}")
        if model.training and num_items_in_batch is not None:
            # DDP averages the gradients of the processes; we need their sum.
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        else:
            loss = losses.mean()
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        """Number of clips of the step; Trainer would count `labels`, of which a regression has D for each clip."""
        clips = [{"labels": batch["labels"].new_zeros(len(batch["labels"]))} for batch in batch_samples]
        return super()._get_num_items_in_batch(clips, device)

    def _not_finite(self, found: str) -> ValueError:
        rate = self._get_learning_rate() if self.lr_scheduler is not None else self.args.learning_rate
        return ValueError(
            f"--learning_rate: at step {self.state.global_step + 1} with a learning rate of {rate:.3g}, {found}. Use a "
            "lower --learning_rate, or look at these clips. The checkpoints before this step are kept."
        )

    def check_weights(self) -> None:
        """Raises ValueError if a weight is not finite: such a model must be neither saved nor scored."""
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self._not_finite(f"the weight {name} is not finite")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves a checkpoint and seals it; older ones are removed only after that."""
        self.check_weights()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # each process writes the state of its random numbers
        if self.args.should_save:
            seal(self._checkpoint())
            rotate_checkpoints(self.args.output_dir, limit, self.state.best_model_checkpoint, use_mtime=True)

    def _checkpoint(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, *args: Any, **kwargs: Any
    ) -> None:
        """As in Trainer; then stops, with a checkpoint, if a signal asked for it.

        The last step of an epoch is followed by a second call, which scores dev: the checkpoint comes after that.
        """
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)
        ends_epoch = self.control.should_training_stop or float(self.state.epoch).is_integer()
        if ends_epoch and self._epoch_end_step != self.state.global_step:
            self._epoch_end_step = self.state.global_step
            return
        number = self._agreed_signal()
        if number is None or self.state.global_step >= self.state.max_steps:
            return
        if not (self._checkpoint() / SEAL).is_file():
            self._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
        raise Stopped(number, self._checkpoint().name)

    def _agreed_signal(self) -> int | None:
        """The signal that any process received: all of them must stop at the same step."""
        number = received() or 0
        if self.args.world_size > 1:
            number = int(self.accelerator.gather(torch.tensor([number], device=self.args.device)).max())
        return number or None

    def _losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.is_regression:
            return concordance_loss(logits, targets).expand(len(targets))
        if self.class_loss is None:
            return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        return self.class_loss(logits, targets)

    def _mixup(self, inputs: dict[str, Any], targets: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
        # Accumulated batches share the number of their step.
        step = self.state.global_step
        self._micro_step = self._micro_step + 1 if step == self._last_step else 0
        self._last_step = step
        mixup = BalancedMixup(self.model_arguments.mixup_alpha, self.drawn_counts)
        return mixup(inputs, targets, (self.args.seed, step, self._micro_step, self.args.process_index))

    def get_train_dataloader(self) -> DataLoader:
        """Batches of [`EpochBatches`] for this process."""
        train, args, workers = self.train_dataset, self.args, self.args.dataloader_num_workers
        batches = self._batches_of(train, args).on_process(args.process_index, args.world_size)
        loader = DataLoader(
            train,
            batch_sampler=batches,
            collate_fn=partial(_with_ids, self.data_collator),
            num_workers=workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
        )
        # accelerate must move tensors and mark the end, but not split the batches again: hence one process.
        one = {"num_processes": 1, "process_index": 0}
        return prepare_data_loader(loader, args.device, put_on_device=True, non_blocking=loader.pin_memory, **one)

    def _batches_of(self, train: Any, args: Any) -> EpochBatches:
        """The batches of all processes."""
        classes = np.zeros(len(train), int) if self.is_regression else train.targets
        weights = draw_weights(balancing(self.model_arguments), classes, train.rows)
        return EpochBatches(
            train.lengths_seconds(),
            args.per_device_train_batch_size,
            args.batch_seconds,
            args.seed if args.data_seed is None else args.data_seed,
            args.train_sampling_strategy == "group_by_length",
            weights,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Batches of [`ScoredClips`] for this process."""
        return self.get_test_dataloader(self.eval_dataset if eval_dataset is None else eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Batches of [`ScoredClips`] for this process."""
        args = self.args
        scored = ScoredClips(test_dataset, cutting_of(self.model, self.data_collator.feature_extractor))
        loader = DataLoader(
            scored,
            batch_sampler=batches_of_process(scored.lengths_seconds, args),
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
        )
        return prepare_data_loader(loader, args.device, num_processes=1, process_index=0, put_on_device=True)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in Trainer, but parts of clips are joined before they are scored."""
        scored = dataloader.dataset
        self.gather_function = lambda values: values  # batches differ in size; all are put together below
        found = super().evaluation_loop(dataloader, description, False, ignore_keys, metric_key_prefix)
        parts = [part for batch in dataloader.batch_sampler for part in batch]
        by_part = dict(gather_object(list(zip(parts, found.predictions, strict=True))))
        values = np.stack([by_part[part] for part in range(len(scored))])
        outputs, targets = scored.joined(values, self.is_regression), np.asarray(scored.clips.targets)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.metrics_of(outputs, targets).items()}
        return EvalLoopOutput(outputs, targets, {**found.metrics, **metrics}, len(targets))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Makes the optimizer; layers and head get their own learning rates."""
        model = self.model if model is None else model
        arguments = self.model_arguments
        if self.optimizer is None and (arguments.layer_lr_decay < 1 or arguments.head_learning_rate is not None):
            decayed = self.get_decay_parameter_names(model)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            rate, decay = self.args.learning_rate, self.args.weight_decay
            self.optimizer: Any = kind(parameter_groups(model, arguments, rate, decay, decayed), **options)
        return super().create_optimizer(model)


def _with_ids(collator: Any, examples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch with the ids of its clips, to name them in an error."""
    return {**collator(examples), "clips": [example["key"][2] for example in examples]}


def count_classes(targets: Any, num_classes: int) -> np.ndarray:
    """Clips of each class, `[C]`."""
    return np.bincount(np.asarray(targets, dtype=np.int64), minlength=num_classes)

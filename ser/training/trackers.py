"""What a run tells the trackers of --report_to beyond the log of its training: its scores on the test clips."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from ser.run_folder import TENSORBOARD

_SCORES = ("uar", "accuracy", "macro_f1", "ccc", "ece")


def write_events_into(callbacks: list[TrainerCallback], folder: Path) -> None:
    """Has TensorBoard write into the folder of the run: that of the checkpoints is removed with them."""
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder / TENSORBOARD)


@contextmanager
def tracked_run(args: Any) -> Iterator[None]:
    """One run of MLflow or Weights & Biases for each fold and seed, which ends after its final scores."""
    with ExitStack() as stack:
        if "wandb" in args.report_to and args.should_save:
            import wandb

            stack.callback(wandb.finish)
        # transformers ends an MLflow run with the training, unless somebody else began it.
        if "mlflow" in args.report_to and args.should_save and "MLFLOW_RUN_ID" not in os.environ:
            import mlflow

            if mlflow.active_run() is None:
                stack.enter_context(mlflow.start_run(run_name=args.run_name))
        yield


def report_scores(results: Mapping[str, Any], job_folder: Path, args: Any, trainer: Any, model: Any) -> None:
    """Gives the test scores with their intervals to the trackers, as `test_uar`, `test_uar_low`, `test_uar_high`.

    Args:
        results: The results of the run.
        job_folder: Its folder.
        args: Its training arguments.
        trainer: What trained the model; None: only a head was fitted on frozen statistics, and no tracker began.
        model: The model.
    """
    scores = results.get("test")
    if not scores or not args.should_save:
        return
    kinds = tuple(get_reporting_integration_callbacks(args.report_to))
    if trainer is None:
        trackers, state, control = [kind() for kind in kinds], TrainerState(), TrainerControl()
        write_events_into(trackers, job_folder)
        for tracker in trackers:
            tracker.on_train_begin(args, state, control, model=model)
    else:
        trackers = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, kinds)]
        state, control = trainer.state, trainer.control
    for tracker in trackers:
        tracker.on_log(args, state, control, logs=_figures(scores), model=model)
        if trainer is None or isinstance(tracker, TensorBoardCallback):  # the others ended with the training
            tracker.on_train_end(args, state, control, model=model)


def _figures(scores: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name in _SCORES:
        if isinstance(scores.get(name), int | float):
            found[f"test_{name}"] = float(scores[name])
        if interval := scores.get("intervals", {}).get(name):
            found |= {f"test_{name}_low": float(interval[0]), f"test_{name}_high": float(interval[1])}
    return found

"""What a run prints while it trains: one line for each epoch, with the names that the report uses."""

from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ser.evaluation.format import TITLES, format_number, format_seconds
from ser.progress import is_terminal

_SPEEDS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class EpochLines(TrainerCallback):
    """Prints `epoch 2 of 12: loss 1.568, dev loss 1.549, UAR 0.448, ...`: one line for each time that dev is scored.

    The training loss waits for the dev scores if both come at the end of an epoch, as they do by default.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Prints a log of the Trainer, or keeps it for the line that follows."""
        logs = logs or {}
        if not state.is_world_process_zero:
            return
        if any(key.startswith("eval_") for key in logs):
            self._print({**self._waiting, **logs}, state)
        elif "loss" in logs:
            self._print(self._waiting, state)
            self._waiting = {"loss": logs["loss"], "epoch": logs["epoch"]}
            if args.eval_strategy != args.logging_strategy or args.logging_strategy == "steps":
                self._print(self._waiting, state)
        elif "train_runtime" in logs:
            self._print(self._waiting, state)
            say(f"trained {state.global_step:,} steps in {format_seconds(logs['train_runtime'])}")

    def _print(self, logs: Mapping[str, Any], state: Any) -> None:
        if words := log_words(logs):
            epochs = f" of {state.num_train_epochs}" if state.num_train_epochs else ""
            say(f"epoch {logs.get('epoch') or 0:.3g}{epochs}: {words}")
        self._waiting = {}


class EpochBar(ProgressCallback):
    """The bar of transformers, without the dictionary that it writes for each log."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Prints nothing: [`EpochLines`] does."""


def log_words(logs: Mapping[str, Any]) -> str:
    """The losses and scores of a log of the Trainer: `loss 1.568, dev loss 1.549, UAR 0.448`."""
    words = [f"loss {format_number(logs['loss'])}"] if "loss" in logs else []
    for key, value in logs.items():
        name = key.removeprefix("eval_")
        if key.startswith("eval_") and name not in _SPEEDS:
            words.append(f"{'dev loss' if name == 'loss' else TITLES.get(name, name)} {format_number(value)}")
    return ", ".join(words)


def say(line: str) -> None:
    """Prints a line above a bar, if there is one."""
    tqdm.write(line) if is_terminal() else print(line, flush=True)


def print_lines(trainer: Any) -> None:
    """Gives a Trainer [`EpochLines`] instead of what transformers prints, and a bar on a terminal alone.

    `--disable_tqdm true` leaves the bar out there too; the bar of a notebook stays.
    """
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None and is_terminal():
        trainer.add_callback(EpochBar)
    trainer.add_callback(EpochLines)

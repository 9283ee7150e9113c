"""What to do when training does not fit into memory, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ser.data.clips import listed


@contextmanager
def memory_errors_in_words(trainer: Any) -> Iterator[None]:
    """Within the block, torch's lack of memory becomes a ValueError that names the batch and the flags that help.

    Args:
        trainer: A `SERTrainer`; its `batch` holds the ids of the clips that are trained on.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU torch raises no class of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ValueError(_words(trainer)) from error


def _words(trainer: Any) -> str:
    args, clips = trainer.args, trainer.batch
    rows = {clip: row for row, clip in enumerate(trainer.train_dataset.ids)}
    lengths = trainer.train_dataset.lengths_seconds()
    longest = max((float(lengths[rows[clip]]) for clip in clips), default=0.0)
    steps = args.gradient_accumulation_steps
    flag, value = "--batch_seconds", args.batch_seconds
    if value == 0:
        flag, value = "--per_device_train_batch_size", args.per_device_train_batch_size
    cure = f"Crop long clips with --max_train_seconds {max(1.0, longest // 2):g}"
    if len(clips) > 1:
        half = value / 2 if flag == "--batch_seconds" else value // 2
        cure = f"Give {flag} {half:g} --gradient_accumulation_steps {2 * steps}, which trains on as many clips a step"
    step = trainer.state.global_step + 1
    return (
        f"{flag}: {value:g}: out of memory at step {step}, with a batch of {len(clips)} clips, "
        f"the longest of {longest:.1f} s ({listed(clips, 2)}). {cure}, or --gradient_checkpointing true, which takes "
        "less memory and more time."
    )

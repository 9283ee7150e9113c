"""The processes of one training: how they end."""

import gc

from accelerate import PartialState


def leave_process_group() -> None:
    """Ends the group of processes, where there is one, before Python itself ends.

    A gloo worker that frees its last tensor during the shutdown of the interpreter aborts the process (SIGABRT), and
    the launcher then reports a finished run as failed. Trainer and DDP hold the group in reference cycles, so these
    are collected first.
    """
    gc.collect()
    PartialState().destroy_process_group()

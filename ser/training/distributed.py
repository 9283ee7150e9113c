"""The processes of one training: how they part."""

import gc

from accelerate import PartialState


def leave_process_group() -> None:
    """Ends the group of processes, where there is one, before Python itself ends.

    A worker of gloo that frees its last tensor while the interpreter shuts down aborts the process (SIGABRT), and the
    launcher then calls a finished run failed. Trainer and DDP hold the group in cycles of references: they go first.
    """
    gc.collect()
    PartialState().destroy_process_group()

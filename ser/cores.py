"""Batches of a model on a CPU: each core has a batch of its own."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Seconds of audio in a batch that one core computes: shorter ones are slower, longer ones gain nothing.
CORE_BATCH_SECONDS = 8.0


def map_on_cores(compute: Callable[[Any], Any], batches: Sequence[Any]) -> Generator[Any]:
    """Maps batches to what a model makes of them, in order, with as many threads as torch may use.

    Cores that share one batch wait for each other behind every layer, most of all on a machine with other work to do.
    The outputs of a batch are then the same to the bit on any number of cores.

    Args:
        compute: Called in threads of its own, which do not inherit `torch.inference_mode()`.
        batches: The longest first, so that the cores end at about the same time.
    """
    import torch

    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(compute, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)

"""Memory that was freed stays with the process, for the next batch."""

import ctypes
import sys

# From malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST, _NEVER = 2**31 - 1, -1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """Tells glibc's `malloc` not to give large blocks back to the system when they are freed.

    A batch frees and takes the same large tensors again and again, and the system clears each of their pages anew:
    without that, training on a CPU is about 5 % faster (`benchmarks/RESULTS.md`). All threads share one heap, since
    those of their own keep no block above 64 MB. The process keeps what it needed at its peak until it ends, so this is
    for commands that end, not for a server. Elsewhere than on glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _NEVER)
        mallopt(_ARENA_MAX, 1)

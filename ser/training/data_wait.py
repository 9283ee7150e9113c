"""The share of its time that training waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class DataWait:
    """Adds up the time spent in its blocks, and compares it with the time since the first of them."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._waited_seconds = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of the block as waiting."""
        start = time.perf_counter()
        self._start = start if self._start is None else self._start
        yield
        self._waited_seconds += time.perf_counter() - start

    def share(self) -> float:
        """Share of the time since the first block, in [0, 1]; the next block starts a new count."""
        start, waited = self._start, self._waited_seconds
        self._start, self._waited_seconds = None, 0.0
        return 0.0 if start is None else round(waited / (time.perf_counter() - start), 4)

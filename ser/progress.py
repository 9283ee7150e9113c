"""Progress of long work: a bar on a terminal, and a few whole lines in a file, where a bar would be escape codes."""

import os
import sys
import time
from typing import Any

# A line in a file: after each tenth of the work, but not sooner than this after the line before.
_SECONDS_BETWEEN_LINES = 10.0


def is_terminal() -> bool:
    """Whether somebody watches; false for a file, a pipe and the log of a cluster."""
    return sys.stderr.isatty()


def no_bars_in_files() -> None:
    """Turns off the bars of all libraries unless stderr is a terminal; call it before tqdm is imported.

    A variable `TQDM_DISABLE` that the user has set stays as it is.
    """
    if not is_terminal():
        os.environ.setdefault("TQDM_DISABLE", "1")


def escape_unknown_letters() -> None:
    """Makes stdout write letters that its encoding lacks as escapes, as stderr does; Python would end with an error.

    Consoles of Windows and of the C locale have no Persian letters, for instance, and no minus sign.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def progress_of(total: int, unit: str, description: str) -> Any:
    """A context manager with `n`, `total`, `update` and `write`: tqdm's bar on a terminal, [`Lines`] elsewhere.

    Args:
        total: Number of units in all.
        unit: What is counted, in the singular.
        description: What is done.
    """
    if not is_terminal():
        return Lines(total, unit, description)
    from tqdm.auto import tqdm

    return tqdm(total=total, unit=unit, desc=description)


class Lines:
    """Prints how far the work has come, at most ten times; nothing for work that takes less than ten seconds.

    Args:
        total, unit, description: As in [`progress_of`].
    """

    def __init__(self, total: int, unit: str, description: str):
        self.total, self.unit, self.description = total, unit, description
        self.n, self.told = 0, 0

    def __enter__(self) -> "Lines":
        self.started = self.last_line = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """Counts `count` more units as done."""
        self.n += count
        now = time.monotonic()
        tenth = 10 * self.n // max(self.total, 1)
        if tenth > self.told and now - self.last_line >= _SECONDS_BETWEEN_LINES:
            self.told, self.last_line = tenth, now
            self.write(f"{self.description}: {self.n:,} of {self.total:,} {self.unit}s, {now - self.started:.0f} s")

    def write(self, line: str) -> None:
        """Prints a line."""
        print(line, flush=True)

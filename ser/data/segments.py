"""Clips that are parts of longer recordings: the columns `start`, `end` and `duration` of a table, in seconds."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ
from ser.names import cell

# How pandas and audformat write a time: "0 days 00:00:01.500000", or "0 days" in a column of whole days.
_CLOCK = re.compile(r"(?:(\d+) days?)?(?:,? ?(\d+):(\d\d):(\d\d(?:\.\d+)?))?")
# An end may be this much beyond the file, because tables write times with two decimals.
_ROUNDING_SECONDS = 0.01


class Segment(NamedTuple):
    """A part of a recording, in seconds; an `end` of None is the end of the recording.

    Raises:
        ValueError: From [`Segment.cut`]; the part is not inside the recording.
    """

    start: float
    end: float | None = None

    def suffix(self) -> str:
        """What tells the ids of a recording's segments apart: `_1.500-3.000`."""
        return f"_{self.start:.3f}-" + ("end" if self.end is None else f"{self.end:.3f}")

    def cut(self, wave: np.ndarray) -> np.ndarray:
        """The samples of this segment in the wave `(T,)` of the whole recording, at 16 kHz.

        Raises:
            ValueError: The segment starts or ends after the recording.
        """
        seconds = len(wave) / SAMPLING_RATE_HZ
        end = seconds if self.end is None else self.end
        if self.start >= seconds or end > seconds + _ROUNDING_SECONDS:
            raise ValueError(
                f"its segment from {self.start:g} s to {end:g} s is beyond the file, which has {seconds:.3f} s; "
                "correct start and end, which are in seconds."
            )
        return wave[round(self.start * SAMPLING_RATE_HZ) : round(end * SAMPLING_RATE_HZ)]


def segment_of(row: Mapping[str, Any]) -> Segment | None:
    """The segment that a row names by `start` and `end`, or by `start` and `duration`; None for a whole recording.

    A row without `start` and `end` is a whole recording, and its `duration` is not read. An `end` alone starts at 0.

    Raises:
        ValueError: A cell is not a number of seconds, or the start is not below the end.
    """
    start, end = (_seconds(row, name) for name in ("start", "end"))
    if start is None and end is None:
        return None
    begin = start or 0.0
    if end is None and (length := _seconds(row, "duration")) is not None:
        if length <= 0:
            raise ValueError(f"has the duration {length:g}; it must be more than 0 seconds")
        end = begin + length
    if end is not None and begin >= end:
        raise ValueError(f"starts at {begin:g} s and ends at {end:g} s; the start must be below the end")
    return Segment(begin, end) if begin or end is not None else None


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    text = cell(row.get(name))
    if text is None:
        return None
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes = (int(part or 0) for part in clock.groups()[:3])
        return ((days * 24 + hours) * 60 + minutes) * 60 + float(clock[4] or 0)
    try:
        value = float(re.sub(r"^(\d+),(\d+)$", r"\1.\2", text))  # a decimal comma
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"has {text!r} in the column {name!r}, not a number of seconds from 0 on")
    return value

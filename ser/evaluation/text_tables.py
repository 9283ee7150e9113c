"""Tables of scores as text: aligned for the terminal, and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ser.evaluation.format import SCORES


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines whose columns begin at the same width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def score_columns() -> list[str]:
    """Names of the columns that `score_cells` fills: each score, then its lower and upper bound."""
    return [*SCORES, *(f"{score}_{bound}" for score in SCORES for bound in ("low", "high"))]


def score_cells(entry: Mapping[str, Any]) -> list[float | None]:
    """Scores of an entry and the bounds of its `intervals`; None where one is absent."""
    intervals = entry.get("intervals", {})
    bounds = (bound for score in SCORES for bound in intervals.get(score) or (None, None))
    return [*(entry.get(score) for score in SCORES), *bounds]

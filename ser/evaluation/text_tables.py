"""Tables of scores as text: aligned for the terminal, and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ser.evaluation.format import SCORES, format_count, format_interval


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


def class_table(scores: Mapping[str, Any]) -> list[str]:
    """Lines with the recall of each class, its interval and its clips; of a regression, CCC of each dimension.

    Args:
        scores: The section `test` or `dev` of `results.json`.
    """
    intervals = scores.get("intervals", {})
    if "per_dimension" in scores:
        bounds = intervals.get("per_dimension", {})
        values = [
            (name, format_interval(entry.get("ccc"), bounds.get(name)))
            for name, entry in scores["per_dimension"].items()
        ]
        return aligned([("dimension", "CCC"), *values])
    bounds = intervals.get("recall", {})
    rows = [
        (label, format_interval(entry.get("recall"), bounds.get(label)), format_count(entry.get("support")))
        for label, entry in scores.get("per_class", {}).items()
    ]
    return aligned([("class", "recall", "clips"), *rows])

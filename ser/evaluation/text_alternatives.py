"""What is to be seen in a plot, in one sentence, for those who cannot see it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser.evaluation.format import format_number, format_percent


def seen_in_confusions(counts: Sequence[Sequence[float]], labels: Sequence[str]) -> str:
    """The recall of each class, and the most frequent confusion."""
    sums = [sum(row) for row in counts]
    recalls = [
        f"{label} {format_percent(row[index] / total)}"
        for index, (label, row, total) in enumerate(zip(labels, counts, sums, strict=True))
        if total
    ]
    pairs = [
        (row[column] / total, labels[index], labels[column])
        for index, (row, total) in enumerate(zip(counts, sums, strict=True))
        for column in range(len(labels))
        if total and column != index and row[column]
    ]
    text = f"Right: {', '.join(recalls)}."
    if pairs:
        share, truth, predicted = max(pairs)
        text += f" Most often confused: {truth}, taken for {predicted} in {format_percent(share)}."
    return text


def seen_in_curves(curve: np.ndarray, name: str) -> str:
    """Where a dev score begins, where it is best, and where it ends, from points `[N, 2]`; empty for none."""
    points = [(float(epoch), float(value)) for epoch, value in curve]
    if not points:
        return ""
    epoch, best = max(points, key=lambda point: point[1])
    first, last = points[0][1], points[-1][1]
    return (
        f"{name} on dev begins at {format_number(first)}, is best at epoch {epoch:g} with {format_number(best)}, and "
        f"ends at {format_number(last)}."
    )


def seen_in_speakers(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The speakers with the lowest and the highest score."""
    order = sorted(rows, key=lambda row: row["value"])
    low, high = order[0], order[-1]
    ends = [f"{format_number(row['value'])} ({row['speaker']})" for row in (low, high)]
    return f"{len(rows)} speakers, from {ends[0]} to {ends[1]} in {name}."


def seen_in_bars(rows: Sequence[Mapping[str, Any]], clean: float | None) -> str:
    """The condition that costs most."""
    worst = min(rows, key=lambda row: row["value"])
    return f"Unchanged clips {format_number(clean)}; lowest {format_number(worst['value'])}, under {worst['name']}."


def seen_in_counts(counts: Mapping[str, int]) -> str:
    """The clips of each class."""
    return f"{', '.join(f'{label} {count}' for label, count in counts.items())}."

"""The plots of a run: each takes plain numbers and returns a figure, for a PNG file or for a page.

No score and no interval is computed here: the caller takes them from `results.json`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ser.evaluation.format import format_count, format_number, format_percent
from ser.evaluation.theme import (
    ACCENT,
    DASHED,
    HEAT,
    INK,
    MUTED,
    ON_HEAT,
    PAPER,
    RULE,
    SECOND,
    canvas,
    name_speakers,
    note,
    percent_axes,
    short,
    styled,
)

GENDER_MARKS = {"female": ("o", ACCENT), "male": ("D", SECOND)}


@styled
def score_scale(
    value: float, interval: Sequence[float] | None, marks: Mapping[str, float], name: str = "UAR"
) -> Figure:
    """The headline score on a scale from 0 to 1, with other scores to compare it with.

    Args:
        value: The score, in [0, 1].
        interval: Its interval, or None.
        marks: Other scores on the same scale by name, such as chance and a baseline.
        name: Name of the score.
    """
    figure, axes = canvas(0.95)
    axes.set(xlim=(min(0, value), 1), ylim=(-1, 1.15), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_position(("data", -0.45))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for rank, (label, mark) in enumerate(sorted(marks.items(), key=lambda item: item[1])):
        height = 0.78 if rank % 2 else 0.4
        axes.vlines(mark, -0.45, height, color=MUTED, linewidth=1, linestyle=DASHED)
        side = "right" if mark > 0.75 else "left"
        behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}  # covers the line of another mark
        offset = (-3 if side == "right" else 3, 0)
        note(axes, f"{label} {format_number(mark)}", (mark, height), offset, ha=side, bbox=behind)
    if interval is not None:
        axes.hlines(0, *interval, color=ACCENT, linewidth=6, alpha=0.35)
    axes.plot(value, 0, "o", color=ACCENT, markersize=9, markeredgecolor=PAPER, label=name)
    return figure


@styled
def training_curves(log_history: Sequence[Mapping]) -> Figure:
    """Loss in training and on dev, and dev UAR (or CCC), over epochs.

    Args:
        log_history: What `Trainer` logs: mappings with `epoch` and some of `loss`, `eval_loss`, `eval_uar`, `eval_ccc`.

    Raises:
        ValueError: No entry holds a loss or a dev score.
    """
    curves = {key: _curve(log_history, key) for key in ("loss", "eval_loss", "eval_uar", "eval_ccc")}
    losses = [key for key in ("loss", "eval_loss") if len(curves[key])]
    scores = [key for key in ("eval_uar", "eval_ccc") if len(curves[key])][:1]
    if not (num_panels := bool(losses) + bool(scores)):
        raise ValueError(f"the log of training holds none of {', '.join(curves)}: there is nothing to draw")
    figure, panels = canvas(1.9 * num_panels + 0.3, nrows=num_panels, sharex=True, squeeze=False)
    if losses:
        looks = {"loss": ("-", ACCENT, "training"), "eval_loss": ("--", SECOND, "dev")}
        for style, colour, name, curve in ((*looks[key], curves[key]) for key in losses):
            panels[0, 0].plot(*curve.T, style, marker=_dots(curve), color=colour, label=name)
        panels[0, 0].set_title("Loss")
        panels[0, 0].legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    if scores:
        _mark_best(panels[-1, 0], curves[scores[0]])
        panels[-1, 0].set(title="Dev UAR" if scores == ["eval_uar"] else "Dev CCC", ymargin=0.25)  # room for "best"
    for axes in panels[:, 0]:
        axes.grid(True)
    panels[-1, 0].set_xlabel("epoch")
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def confusion_matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Rows are the true class, columns the predicted one; each cell holds its share of the row and its clips.

    Args:
        counts: Clips, `[C, C]`.
        labels: Names of the classes in that order.
    """
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = canvas(0.62 * len(labels) + 1.2)
    small = 10 if len(labels) <= 7 else 8
    for (row, column), share in np.ndenumerate(shares):
        axes.add_patch(_cell(row, column, share))
        colour = ON_HEAT if share > 0.7 else INK if table[row, column] else MUTED
        look = {"color": colour, "ha": "center"}
        axes.text(column, row - 0.05, format_percent(share), va="bottom", fontsize=small, **look)
        axes.text(column, row + 0.08, format_count(int(table[row, column])), va="top", fontsize=small - 2, **look)
    size, names = len(labels) - 0.5, [short(label) for label in labels]
    axes.set(xlim=(-0.5, size), ylim=(size, -0.5), xlabel="predicted", ylabel="true")
    slant = {"rotation": 35, "ha": "right"} if len(labels) > 5 else {}
    axes.set_xticks(range(len(labels)), names, **slant)
    axes.set_yticks(range(len(labels)), names)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure


@styled
def reliability(curves: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Share of clips that are right against the model's confidence; on the diagonal the two are equal.

    Args:
        curves: Bins by name ("before", "after"), as `calibration.reliability` gives them. The last curve is the
            model's own and is drawn with its intervals.
    """
    figure, axes = canvas(3.9)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    looks = [(MUTED, "s", "--"), (ACCENT, "o", "-")][-len(curves) :]
    for (name, bins), (colour, marker, style) in zip(curves.items(), looks, strict=True):
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        axes.plot(x, y, style, marker=marker, color=colour, markersize=6, markeredgecolor=PAPER, label=name)
    low, high = zip(*(b["accuracy_interval"] for b in bins), strict=True)
    axes.vlines(x, low, high, color=ACCENT, alpha=0.35, linewidth=2)
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(True)
    axes.legend(loc="upper left")
    percent_axes(axes.xaxis, axes.yaxis)
    return figure


@styled
def risk_coverage(curve: Mapping[str, Sequence[float]], chosen: Mapping[str, float] | None = None) -> Figure:
    """Accuracy over the answered clips when the model abstains on the least confident ones.

    Args:
        curve: Lists `coverage` and `accuracy`, as `calibration.risk_coverage` gives them.
        chosen: `coverage` and `precision` of a threshold to mark.
    """
    figure, axes = canvas(2.7)
    axes.plot(curve["coverage"], curve["accuracy"], color=ACCENT)
    if chosen and chosen.get("precision") is not None:
        axes.plot(chosen["coverage"], chosen["precision"], "D", color=SECOND, markersize=7, markeredgecolor=PAPER)
    lowest = min(curve["accuracy"])
    axes.set(xlabel="share of clips answered", ylabel="accuracy", xlim=(0, 1.02), ylim=(max(0, lowest - 0.08), 1.02))
    axes.grid(True)
    percent_axes(axes.xaxis, axes.yaxis)
    return figure


@styled
def speakers(rows: Sequence[Mapping], overall: float | None = None, score: str = "accuracy") -> Figure:
    """One mark and interval for each speaker, from the worst to the best.

    Args:
        rows: `speaker`, `gender` (may be None), `value` in [0, 1] and `interval` (may be None) of each.
        overall: The score over all clips, drawn as a line.
        score: Name of the score.
    """
    figure, axes = canvas(3.2)
    rows = sorted(rows, key=lambda row: (row["value"], str(row["speaker"])))
    for gender, (marker, colour) in [*GENDER_MARKS.items(), (None, ("s", MUTED))]:
        chosen = [(x, row) for x, row in enumerate(rows, 1) if _gender(row) == gender]
        for x, row in chosen:
            if row.get("interval"):
                axes.vlines(x, *row["interval"], color=colour, alpha=0.35, linewidth=min(3.0, 90 / len(rows)))
        if chosen:
            positions, values = [x for x, _ in chosen], [row["value"] for _, row in chosen]
            look = {"color": colour, "markersize": 5, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
            axes.plot(positions, values, marker, label=gender or "gender not known", **look)
    if overall is not None:
        axes.axhline(overall, color=MUTED, linewidth=1, linestyle=DASHED)
    axes.set(xlim=(0.3, len(rows) + 0.7), ylim=(-0.02, 1.02), ylabel=score, xlabel="speakers, worst to best")
    name_speakers(axes, [str(row["speaker"]) for row in rows])
    axes.grid(True)
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)  # above the marks
    return figure


@styled
def robustness_bars(rows: Sequence[Mapping], clean: float, score: str = "UAR") -> Figure:
    """One bar with interval for each condition, and the score on the unchanged clips as a line.

    Args:
        rows: `name`, `value` and `interval` (may be None) of each condition, from top to bottom.
        clean: The score on the unchanged clips.
        score: Name of the score.
    """
    figure, axes = canvas(0.27 * len(rows) + 0.7)
    values, heights = [row["value"] for row in rows], np.arange(len(rows))
    axes.barh(heights, values, color=ACCENT, height=0.62, alpha=0.55)
    for y, row in enumerate(rows):
        if row.get("interval"):
            axes.hlines(y, *row["interval"], color=INK, linewidth=1.2)
    axes.axvline(clean, color=SECOND, linewidth=1.2, linestyle=DASHED)
    axes.set_yticks(heights, [short(row["name"], 24) for row in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel=score)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(True, axis="x")
    return figure


@styled
def class_distribution(counts: Mapping[str, int]) -> Figure:
    """Clips per class, as bars.

    Args:
        counts: Clips by label.
    """
    figure, axes = canvas(0.32 * len(counts) + 0.6)
    total, heights = max(1, sum(counts.values())), np.arange(len(counts))
    axes.barh(heights, list(counts.values()), color=ACCENT, height=0.62, alpha=0.55)
    for y, number in enumerate(counts.values()):
        note(axes, f"{format_count(number)}  ({format_percent(number / total)})", (number, y), (4, 0))
    axes.set_yticks(heights, [short(label, 18) for label in counts])
    axes.set(xlabel="clips", ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1.25 * max([1, *counts.values()])))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


@styled
def duration_distribution(seconds: Sequence[float]) -> Figure:
    """Histogram of the lengths of clips, on a logarithmic axis, with the median.

    Args:
        seconds: Length of every clip, above 0.
    """
    figure, axes = canvas(2.3)
    lengths = np.asarray(seconds, float)
    median = np.median(lengths)
    low, high = min(0.95 * lengths.min(), median / 1.5), max(1.05 * lengths.max(), median * 1.5)
    axes.hist(lengths, bins=np.geomspace(low, high, 31), color=ACCENT, alpha=0.55)
    axes.axvline(median, color=SECOND, linewidth=1.2, linestyle=DASHED)
    note(axes, f"median {median:.1f} s", (median, 1), (4, -6), color=SECOND, xycoords=("data", "axes fraction"))
    axes.set(xscale="log", xlabel="length in seconds", ylabel="clips", xlim=(low, high))
    ticks = [tick for decade in (0.01, 0.1, 1, 10, 100, 1000) for tick in (decade, 2 * decade, 3 * decade, 5 * decade)]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
    axes.grid(True)
    return figure


@styled
def regression_scatter(truth: Sequence[float], predicted: Sequence[float], name: str) -> Figure:
    """Predicted against annotated values of one dimension, with the line on which they are equal."""
    figure, axes = canvas(4.2)
    bounds = min(*truth, *predicted), max(*truth, *predicted)
    axes.plot(bounds, bounds, color=MUTED, linewidth=1, linestyle=DASHED)
    axes.plot(truth, predicted, "o", color=ACCENT, markersize=3.5, alpha=0.4, markeredgewidth=0)
    axes.set(xlabel=f"annotated {short(name, 24)}", ylabel=f"predicted {short(name, 24)}", box_aspect=1)
    axes.grid(True, axis="both")
    return figure


def _curve(log_history: Sequence[Mapping], key: str) -> np.ndarray:
    """`(epoch, value)` of every entry that holds `key`, `[N, 2]`."""
    points = [(entry.get("epoch", 0), entry[key]) for entry in log_history if entry.get(key) is not None]
    return np.array(points, dtype=float).reshape(-1, 2)


def _dots(curve: np.ndarray) -> str:
    """A marker for curves of few points: a single point draws no line."""
    return "." if len(curve) <= 30 else ""


def _mark_best(axes: Any, curve: np.ndarray) -> None:
    epoch, value = curve[int(np.nanargmax(curve[:, 1]))]
    axes.plot(*curve.T, "--", marker=_dots(curve), color=SECOND)
    axes.plot(epoch, value, "o", color=SECOND, markersize=7, markeredgecolor=PAPER)
    note(axes, f"best {format_number(value)}", (epoch, value), (0, 12), ha="center")


def _cell(row: int, column: int, share: float) -> Rectangle:
    corner, edge = (column - 0.46, row - 0.46), INK if row == column else RULE
    return Rectangle(corner, 0.92, 0.92, facecolor=(HEAT, 0.04 + 0.96 * share), edgecolor=edge, linewidth=0.8)


def _gender(row: Mapping) -> str | None:
    return row["gender"] if row.get("gender") in GENDER_MARKS else None

"""The plots of the data page: each takes plain numbers and returns a figure in the style of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from ser.evaluation.format import format_count
from ser.evaluation.plots import GENDER_MARKS
from ser.evaluation.theme import ACCENT, DASHED, HEAT, INK, MUTED, PAPER, RULE, SECOND, canvas, note, short, styled

# Each stands out by 3 to 1 or more from the light and from the dark page; with a mark of its own it can be told without
# its colour. After Okabe and Ito, 2008.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b55f96", "#a87300", "#2b8cc4", "#7a7a7a", "#7d7a1f")
MARKS = ("o", "s", "D", "^", "v", "P", "X", "*")
MAX_NAMED, MAX_POINTS, MAX_COLUMNS = 12, 2000, 150
_MAX_DOTS = 100
_TICKS = [tick * 10.0**power for power in range(-3, 4) for tick in (1, 2, 3, 5)]


@styled
def bars_by_gender(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Clips per class, as bars of one part for each gender.

    Args:
        counts: Clips by gender, by class; genders other than female and male are drawn in grey.
    """
    figure, axes = canvas(0.34 * len(counts) + 0.95)
    heights, left = np.arange(len(counts)), np.zeros(len(counts))
    genders = sorted({gender for own in counts.values() for gender in own}, key=lambda g: (g not in GENDER_MARKS, g))
    for gender in genders:
        widths = np.array([own.get(gender, 0) for own in counts.values()])
        colour = GENDER_MARKS.get(gender, ("s", MUTED))[1]
        look = {"height": 0.62, "alpha": 0.6, "edgecolor": PAPER, "linewidth": 0.8}
        axes.barh(heights, widths, left=left, color=colour, label=gender, **look)
        left += widths
    for y, total in enumerate(left):
        note(axes, format_count(total), (total, y), (4, 0))
    axes.set_yticks(heights, [short(name, 18) for name in counts])
    axes.set(xlabel="clips", ylim=(len(counts) - 0.4, -0.6), xlim=(0, 1.15 * max(1, left.max())))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if len(genders) > 1:
        figure.legend(ncols=3, loc="outside upper left")
    return figure


@styled
def speakers_by_class(counts: np.ndarray, classes: Sequence[str], speakers: Sequence[str]) -> Figure:
    """One cell for each speaker and class; the darker, the more clips.

    Args:
        counts: Clips, `[C, S]`; the caller keeps S at 150 or less.
        classes: Names of the rows.
        speakers: Names of the columns.
    """
    figure, axes = canvas(0.34 * len(classes) + 0.9)
    most = max(1, counts.max())
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = (HEAT, 0.12 + 0.88 * count / most)
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=0.3))
    axes.set(xlim=(-0.5, len(speakers) - 0.5), ylim=(len(classes) - 0.5, -0.5))
    axes.set_yticks(range(len(classes)), [short(name, 18) for name in classes])
    if len(speakers) <= 24:
        axes.set_xticks(range(len(speakers)), [short(name, 8) for name in speakers], rotation=60, ha="right")
        axes.set_xlabel("speakers, by number of clips")
    else:
        axes.set(xticks=[], xlabel=f"{len(speakers)} speakers, by number of clips")
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_edgecolor(RULE)
    return figure


@styled
def violins(
    groups: Mapping[str, np.ndarray],
    label: str,
    is_logarithmic: bool = False,
    dots: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """One violin for each group, with a line at its median and, as dots, the means of its speakers.

    Args:
        groups: Finite values by group, above 0 on a logarithmic axis; a group may be empty.
        label: Name and unit of the values.
        is_logarithmic: Whether the axis is.
        dots: Finite values by group.
    """
    figure, axes = canvas(0.36 * len(groups) + 0.75)
    scale = np.log10 if is_logarithmic else np.asarray
    for y, (name, values) in enumerate(groups.items()):
        values = scale(np.asarray(values, float))
        if len(values) > 1 and np.ptp(values) > 0:
            drawn = axes.violinplot(values, [y], orientation="horizontal", widths=0.82, showextrema=False, points=60)
            for body in drawn["bodies"]:
                body.set(facecolor=ACCENT, alpha=0.35, edgecolor="none")
        if len(values):
            axes.vlines(np.median(values), y - 0.34, y + 0.34, color=ACCENT, linewidth=2.2)
        own = scale(np.asarray((dots or {}).get(name, ()), float))[:_MAX_DOTS]
        spread = 0.5 * (np.arange(len(own)) * 0.618 % 1 - 0.5)  # the golden section: neighbours do not overlap
        axes.plot(own, y + spread, "o", color=INK, markersize=2.6, alpha=0.75, markeredgewidth=0)
    axes.set_yticks(range(len(groups)), [short(name, 18) for name in groups])
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel=label)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    if is_logarithmic:
        _logarithmic_ticks(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(True, axis="x")
    return figure


@styled
def points(places: np.ndarray, groups: Sequence[str | None], axis: str) -> Figure:
    """Clips as marks in a plane, coloured by group; groups beyond twelve are grey.

    Args:
        places: `(N, 2)`; the caller keeps N at 2,000 or less.
        groups: Group of each clip; None is grey too.
        axis: Name of the axes, such as "component"; their numbers are added.
    """
    figure, axes = canvas(4.6)
    named, others = named_groups(groups)
    size = 4.2 if len(places) <= 600 else 3.0
    if others.any():
        look = {"color": MUTED, "markersize": size - 1, "alpha": 0.45, "markeredgewidth": 0}
        axes.plot(*places[others].T, ".", label="others", **look)
    own = np.array([str(group) for group in groups], object)
    for index, name in enumerate(named):
        mark = MARKS[(index + index // len(COLOURS)) % len(MARKS)]
        look = {"color": COLOURS[index % len(COLOURS)], "markersize": size, "alpha": 0.85, "markeredgewidth": 0}
        axes.plot(*places[own == name].T, mark, label=short(name, 10), **look)
    axes.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", xticks=[], yticks=[], box_aspect=0.86)
    figure.legend(ncols=4, loc="outside lower center", markerscale=1.6, handletextpad=0.1, columnspacing=1.0)
    return figure


def named_groups(groups: Sequence[str | None]) -> tuple[list[str], np.ndarray]:
    """The groups that get a colour, those with the most clips, sorted by name; and which clips are in none of them."""
    own = np.array([str(group) for group in groups], object)
    known = np.array([group is not None for group in groups], bool)
    names, counts = np.unique(own[known].astype(str), return_counts=True)
    named = sorted(names[np.argsort(-counts, kind="stable")][:MAX_NAMED].tolist())
    return named, ~(known & np.isin(own.astype(str), named))


@styled
def histogram(values: np.ndarray, label: str, bounds: tuple[float, float]) -> Figure:
    """How often values occur, with their median.

    Args:
        values: Finite values.
        label: Name and unit.
        bounds: Ends of the axis.
    """
    figure, axes = canvas(2.1)
    median = float(np.median(values))
    axes.hist(np.clip(values, *bounds), bins=np.linspace(*bounds, 33), color=ACCENT, alpha=0.55)
    axes.axvline(median, color=SECOND, linewidth=1.2, linestyle=DASHED)
    side = "right" if median > sum(bounds) / 2 else "left"
    offset = (-4 if side == "right" else 4, -6)
    look = {"color": SECOND, "xycoords": ("data", "axes fraction"), "ha": side}
    note(axes, f"median {median:,.0f}", (median, 1), offset, **look)
    axes.set(xlabel=label, ylabel="clips", xlim=bounds)
    axes.margins(y=0.18)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(True)
    return figure


def _logarithmic_ticks(axes: Any) -> None:
    """Ticks 1, 2, 3, 5, 10, ... for an axis that holds logarithms; fewer where they would overlap."""
    low, high = axes.get_xlim()
    inside = [tick for tick in _TICKS if low <= np.log10(tick) <= high]
    if len(inside) > 7:
        inside = [tick for tick in inside if f"{tick:e}"[0] in "15"]
    axes.set_xticks(np.log10(inside))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.4g}"))
    axes.xaxis.set_minor_locator(NullLocator())

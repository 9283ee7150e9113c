"""The heat map of a table of scores: rows are training corpora, columns are test corpora."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ser.evaluation.format import format_bracket, format_number
from ser.evaluation.theme import HEAT, INK, MUTED, ON_HEAT, RULE, canvas, short, styled

Score = tuple[float, Sequence[float] | None]


@styled
def heat_map(scores: Sequence[Sequence[Score | None]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """One cell for each pair, with score and interval; cells whose row and column have one name are framed.

    Args:
        scores: Score in [0, 1] and interval of each cell, `[R, K]`; None where there is none.
        rows: Names of the training corpora, R of them.
        columns: Names of the test corpora, K of them.
    """
    figure, axes = canvas(0.62 * len(rows) + 1.2)
    small = 10 if len(columns) <= 4 else 8 if len(columns) <= 6 else 6
    for row, name in enumerate(rows):
        for column, other in enumerate(columns):
            cell = scores[row][column]
            value, interval = cell if cell else (None, None)
            look: dict[str, Any] = {"facecolor": (HEAT, 0.04 + 0.96 * (value or 0)), "linewidth": 0.8}
            axes.add_patch(
                Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, edgecolor=INK if name == other else RULE, **look)
            )
            colour = MUTED if value is None else ON_HEAT if value > 0.7 else INK
            text = {"color": colour, "ha": "center"}
            axes.text(column, row - 0.05, format_number(value), va="bottom", fontsize=small, **text)
            axes.text(column, row + 0.08, format_bracket(interval), va="top", fontsize=small - 2, **text)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), xlabel="tested on", ylabel="trained on")
    slant = {"rotation": 35, "ha": "right"} if len(columns) > 5 else {}
    axes.set_xticks(range(len(columns)), [short(name) for name in columns], **slant)
    axes.set_yticks(range(len(rows)), [short(name) for name in rows])
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure

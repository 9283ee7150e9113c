"""The plot of the scores of each layer of a frozen encoder."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ser.evaluation.theme import ACCENT, MUTED, PAPER, SECOND, canvas, note, styled


@styled
def layer_scores(rows: Sequence[Mapping[str, Any]], name: str, num_folds: int) -> Figure:
    """One mark and interval for each layer, from the input of the first one upwards; `all` stands apart.

    Args:
        rows: `layer` (a number, or "all", as text), `value`, `interval` (may be None) and `chosen`, the number of
            folds that chose it.
        name: Name of the score.
        num_folds: Number of folds that chose.
    """
    figure, axes = canvas(2.7)
    numbered = sum(row["layer"] != "all" for row in rows)
    gap = max(0.3, numbered / 20)
    positions = [x if row["layer"] != "all" else numbered + gap for x, row in enumerate(rows)]
    axes.plot(positions[:numbered], [row["value"] for row in rows[:numbered]], color=ACCENT, alpha=0.35, linewidth=1.2)
    for x, row in zip(positions, rows, strict=True):
        colour = SECOND if row["chosen"] else ACCENT
        low, high = row["interval"] or (row["value"], row["value"])
        axes.vlines(x, low, high, color=colour, alpha=0.35, linewidth=min(5.0, 120 / len(rows)))
        look = {"color": colour, "markersize": 8 if row["chosen"] else 6, "markeredgecolor": PAPER}
        axes.plot(x, row["value"], "D" if row["chosen"] else "o", **look)
        if row["chosen"]:
            times = "chosen" if num_folds == 1 else f"{row['chosen']} of {num_folds}"
            note(axes, times, (x, high), (0, 8), color=SECOND, ha="center")
    if numbered < len(rows):
        axes.axvline(numbered - 0.5 + gap / 2, color=MUTED, linewidth=0.7, alpha=0.5)
    step = -(-numbered // 13)  # the names of 25 layers would run into each other
    shown = [
        (x, row["layer"]) for x, row in zip(positions, rows, strict=True) if row["layer"] == "all" or x % step == 0
    ]
    axes.set_xticks(*zip(*shown, strict=True))
    axes.set(xlim=(-0.6, positions[-1] + 0.6), xlabel="layer (0: what enters the first)", ylabel=name)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.margins(y=0.16)
    axes.grid(True)
    return figure

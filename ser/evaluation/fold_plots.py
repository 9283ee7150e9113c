"""The dev curves of several runs in one plot: each fold and seed as a thin line, their mean as a thick one."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ser.evaluation.theme import ACCENT, SECOND, canvas, styled

Log = Sequence[Mapping]


def dev_curve(log: Log) -> np.ndarray:
    """`(epoch, UAR or CCC on dev)` of a log of the Trainer, `[N, 2]`; empty if dev was not scored."""
    key = next((key for key in ("eval_uar", "eval_ccc") if any(entry.get(key) is not None for entry in log)), "")
    points = [(entry.get("epoch", 0), entry[key]) for entry in log if entry.get(key) is not None]
    return np.array(points, dtype=float).reshape(-1, 2)


def mean_curve(curves: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of curves at the epochs that all of them reach, `[N, 2]`; runs that stopped early end it."""
    shared = sorted(set.intersection(*(set(curve[:, 0]) for curve in curves))) if curves else []
    rows = [(epoch, np.mean([curve[curve[:, 0] == epoch, 1][0] for curve in curves])) for epoch in shared]
    return np.array(rows, dtype=float).reshape(-1, 2)


@styled
def overlaid_curves(groups: Mapping[str, Sequence[np.ndarray]], score: str = "UAR") -> Figure:
    """Dev scores over epochs.

    Args:
        groups: Curves `[N, 2]` of epoch and score by the name of their run; a run of one name has none in the legend.
        score: Name of the score.
    """
    figure, axes = canvas(3.0)
    colours = (ACCENT, SECOND, "#4a8f5a", "#8a5fb0", "#a8862b", "#5b6571")
    for index, (name, curves) in enumerate(groups.items()):
        colour, dash = colours[index % len(colours)], ("-", "--", ":", "-.")[index // len(colours) % 4]
        for curve in curves if len(curves) > 1 else ():
            axes.plot(*curve.T, dash, color=colour, linewidth=0.8, alpha=0.35)
        mean = mean_curve(curves) if len(curves) > 1 else curves[0]
        axes.plot(*mean.T, dash, color=colour, linewidth=2.2, label=name, marker="." if len(mean) <= 30 else "")
    axes.set(xlabel="epoch", ylabel=f"dev {score}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True)
    if len(groups) > 1:  # above the axes, where no curve is
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure

"""`ser runs --html`: one page about all runs below a folder: their table, their curves, and differences to one run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser.evaluation import theme
from ser.evaluation.compare import compare, predictions_to_compare
from ser.evaluation.fold_plots import dev_curve, overlaid_curves
from ser.evaluation.format import format_difference, format_p
from ser.evaluation.pages import page_environment
from ser.evaluation.runs_table import runs_cells
from ser.files import write_text
from ser.run_folder import LOG, REPORT, fold_folders, read_log

# More curves than this cannot be told apart.
MOST_CURVES = 12


def write_runs_page(folder: Path, rows: Sequence[Mapping[str, Any]], against: str | None, path: Path) -> Path:
    """Writes the page of the runs below a folder.

    Args:
        folder: The folder.
        rows: Its runs, from `runs_table.runs_below`.
        against: The run, as the table names it, with which the others are compared in pairs; None: no comparison.
        path: The file to write.

    Raises:
        ValueError: `against` is none of the runs.
    """
    names = [row["run"] for row in rows]
    if against is not None and against not in names:
        raise ValueError(f"--against: {against!r} is none of the runs below {folder}: {', '.join(names)}.")
    header, *cells = runs_cells(rows)
    found = differences(folder, names, against) if against else {}
    page = (
        page_environment()
        .get_template("runs.html")
        .render(
            folder=str(folder),
            header=header,
            rows=[
                {"cells": row, "difference": found.get(row[0]), "link": link_to(folder / row[0], path.parent)}
                for row in cells
            ],
            against=against,
            curves=curves_of(folder, names),
        )
    )
    write_text(page, path)
    return path


def differences(folder: Path, names: Sequence[str], against: str) -> dict[str, str]:
    """For each run UAR minus that of the run `against`, with interval and p, or why they cannot be compared."""
    other, found = predictions_to_compare(folder / against), {}
    for name in names:
        if name == against:
            continue
        try:
            result = compare(predictions_to_compare(folder / name), other)
        except (ValueError, OSError) as error:
            found[name] = f"not compared: {error}"
        else:
            uar = result["uar"]
            found[name] = f"{format_difference(uar['difference'], uar['interval'])}, {format_p(uar['p_value'])}"
    return found


def curves_of(folder: Path, names: Sequence[str]) -> dict[str, str] | None:
    """The dev curves of the runs, each averaged over its folds and seeds, as SVG with a caption; None without any."""
    groups = {}
    for name in names:
        folders = fold_folders(folder / name, LOG) or [folder / name]
        curves = [curve for own in folders if len(curve := dev_curve(read_log(own))) > 1]
        if curves:
            groups[name] = curves
    if not groups:
        return None
    shown = dict(list(groups.items())[:MOST_CURVES])
    more = f" The best {MOST_CURVES} of {len(groups)} runs are shown." if len(groups) > MOST_CURVES else ""
    told = ", ".join(f"{name} reaches {max(curve[:, 1].max() for curve in own):.3f}" for name, own in shown.items())
    figure = overlaid_curves({theme.short(name, 40): own for name, own in shown.items()}, "score")
    return {
        "svg": theme.to_svg(figure, "curves", f"Dev score over epochs: {told}"),
        "caption": f"Dev score over epochs. Thin lines are folds and seeds, thick ones their mean.{more}",
    }


def link_to(run: Path, start: Path) -> str | None:
    """The address of a run's report, from the folder of the page; None if it has none or lies elsewhere."""
    report = (run / REPORT).resolve()
    if not report.is_file() or not report.is_relative_to(start.resolve()):
        return None
    return report.relative_to(start.resolve()).as_posix()

"""A table of all runs below a folder, from their `results.json` alone: settings that differ, scores and seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser.evaluation.format import TITLES, format_interval, format_seconds
from ser.evaluation.schema import check_results
from ser.evaluation.text_tables import aligned, csv_text
from ser.run_folder import NOT_PART_OF_A_RUN, RESULTS, read_results


def runs_below(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The finished runs below a folder, the best UAR (or CCC) on test first, and why other files were left out.

    The folders of a run's seeds and folds are parts of that run, and no rows of their own.

    Returns:
        Rows with `run` (path below `folder`), `settings` (those of the configuration that differ between the runs),
        `dev` and `test` (`score`, `value` and `interval` of each, None where it was not scored) and `seconds`.

    Raises:
        FileNotFoundError: There is no such folder, or no finished run in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one with runs in it, such as runs")
    found, left_out = {}, []
    for path in sorted(folder.rglob(RESULTS)):
        if path.parent.name.startswith("fold-") and (path.parents[2] / RESULTS).is_file():
            continue
        try:
            results = read_results(path)
            check_results(results, path)
        except ValueError as error:
            left_out.append(str(error))
        else:
            found[path.parent.relative_to(folder).as_posix()] = results
    if not found:
        raise FileNotFoundError(" ".join([f"{folder} holds no finished run (no {RESULTS} to read).", *left_out]))
    configs = [results.get("config", {}) for results in found.values()]
    keys = sorted({key for config in configs for key in config} - {*NOT_PART_OF_A_RUN})
    differing = [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]
    rows = [_row(name, results, differing) for name, results in found.items()]
    return sorted(rows, key=lambda row: -(row["test"]["value"] if row["test"] else -2.0)), left_out


def runs_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `runs_below` as text: one line for each run, its scores before what it sets otherwise."""
    return "\n".join(aligned(runs_cells(rows)))


def runs_cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of that table, the header first."""
    cells: list[tuple[str, ...]] = [("run", "dev", "test", "seconds", "settings that differ")]
    for row in rows:
        scores = (_score_words(row[part]) for part in ("dev", "test"))
        given = (f"{key}={_short(value)}" for key, value in row["settings"].items() if value is not None)
        cells.append((row["run"], *scores, format_seconds(row["seconds"]), " ".join(given)))
    return cells


def runs_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `runs_below` as CSV, with scores in full precision."""
    parts = [f"{part}_{column}" for part in ("dev", "test") for column in ("score", "value", "low", "high")]
    cells: list[list[Any]] = [["run", *rows[0]["settings"], *parts, "seconds"]]
    for row in rows:
        scores = [cell for part in ("dev", "test") for cell in _score_cells(row[part])]
        cells.append([row["run"], *row["settings"].values(), *scores, row["seconds"]])
    return csv_text(cells)


def _short(value: Any, most: int = 24) -> str:
    """A setting that fits into a line; the CSV has it whole."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _row(name: str, results: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    key = "ccc" if results["task"] == "regression" else "uar"
    seconds = [value for value in results.get("seconds", {}).values() if value is not None]
    return {
        "run": name,
        "settings": {setting: results.get("config", {}).get(setting) for setting in settings},
        **{part: _score(results.get(part, {}), key) for part in ("dev", "test")},
        "seconds": sum(seconds) if seconds else None,
    }


def _score(scores: dict[str, Any], key: str) -> dict[str, Any] | None:
    if scores.get(key) is None:
        return None
    return {"score": TITLES[key], "value": scores[key], "interval": scores.get("intervals", {}).get(key)}


def _score_words(score: dict[str, Any] | None) -> str:
    return f"{score['score']} {format_interval(score['value'], score['interval'])}" if score else ""


def _score_cells(score: dict[str, Any] | None) -> list[Any]:
    return [score["score"], score["value"], *(score["interval"] or (None, None))] if score else [None] * 4

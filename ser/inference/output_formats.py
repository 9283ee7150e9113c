"""Answers as a table, JSON, JSON lines, CSV, Parquet, SRT or RTTM."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ser.files import draft_of
from ser.inference.recordings import printable
from ser.inference.subtitles import rttm, srt

FORMATS = ("table", "json", "jsonl", "csv", "parquet", "srt", "rttm")
# These formats hold a timeline only.
TIMELINE_FORMATS = ("srt", "rttm")


def answer_columns(labels: list[str], timeline: bool, regression: bool) -> list[str]:
    """Columns of CSV and Parquet; named as in `predictions.parquet` where the content is the same."""
    values = [f"{'pred' if regression else 'p'}_{label}" for label in labels]
    chosen = [] if regression else ["label", "score"]
    return ["file", *(["start", "end"] if timeline else []), *chosen, *values]


def answer_rows(answer: dict[str, Any], columns: list[str]) -> Iterator[dict[str, Any]]:
    """One row for a recording, or one for each segment of its timeline; None where there is no value."""
    for part in answer.get("segments", [answer]):
        scores = part["scores"]
        best = scores[0] if scores else {"label": part.get("label"), "score": None}
        named = {score["label"]: score["score"] for score in scores}
        known = {"file": stored(answer["file"]), "start": part.get("start"), "end": part.get("end"), **best}
        yield {name: known[name] if name in known else named.get(name.partition("_")[2]) for name in columns}


def stored(file: str) -> str:
    """A name for text files: bytes that are not UTF-8 are written as `\\udc..`."""
    return file.encode("utf-8", "backslashreplace").decode("utf-8")


def table_lines(answers: Iterable[dict[str, Any]], columns: list[str]) -> Iterator[str]:
    """Aligned columns; the file is last because its name may be long."""
    shown = [name for name in columns if name not in ("file", "score")] + ["file"]
    heads = {name: name.removeprefix("p_").removeprefix("pred_") for name in shown}
    labels = [head for name, head in heads.items() if name.startswith(("p_", "pred_"))]
    widths = {name: max(8 if name in ("start", "end") else 6, len(head)) for name, head in heads.items()}
    widths["label"] = max(map(len, [*labels, "silence"]))
    yield _table_line(heads, widths)
    for answer in answers:
        for row in answer_rows(answer, columns):
            yield _table_line({name: _cell(name, row[name]) for name in shown}, widths)


def _table_line(cells: dict[str, str], widths: dict[str, int]) -> str:
    texts = [cell.ljust(widths[name]) if name == "label" else cell.rjust(widths[name]) for name, cell in cells.items()]
    return "  ".join([*texts[:-1], cells["file"]]) + "\n"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    return f"{value:.2f}" if name in ("start", "end") else f"{value:.3f}"


def json_lines(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One JSON object a line, `{"file", "scores"}` or `{"file", "segments"}`, as the pipeline returns them."""
    for answer in answers:
        yield json.dumps({**answer, "file": stored(answer["file"])}, ensure_ascii=False, allow_nan=False) + "\n"


def json_list(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The objects of [`json_lines`] as one JSON list."""
    opening = "["
    for line in json_lines(answers):
        yield opening + "\n  " + line.rstrip("\n")
        opening = ","
    yield "[]\n" if opening == "[" else "\n]\n"


def csv_lines(answers: Iterable[dict[str, Any]], columns: list[str]) -> Iterator[str]:
    """Comma-separated values with a header; a name may hold commas, quotes and line breaks.

    A text that a spreadsheet would take for a formula, such as a file `=1+1.wav`, gets an apostrophe before it.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    quoting_all = csv.DictWriter(buffer, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    yield buffer.getvalue()
    for answer in answers:
        buffer.seek(0)
        buffer.truncate()
        for row in answer_rows(answer, columns):
            cells = {name: _no_formula(cell) for name, cell in row.items()}
            # The csv module leaves a carriage return outside quotes, and readers take it for the end of the row.
            has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells.values())
            (quoting_all if has_return else writer).writerow(cells)
        yield buffer.getvalue()


def _no_formula(cell: Any) -> Any:
    """A cell as spreadsheets show it and do not compute it; numbers stay."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def text_of(answers: Iterable[dict[str, Any]], kind: str, columns: list[str]) -> Iterator[str]:
    """The pieces of text that `answers` are in a format other than Parquet."""
    if kind == "srt":
        return (piece for answer in answers for piece in srt(answer["segments"]))
    if kind == "rttm":
        return rttm(answers)
    if kind in ("json", "jsonl"):
        return (json_list if kind == "json" else json_lines)(answers)
    return (csv_lines if kind == "csv" else table_lines)(answers, columns)


def arrow_table(answers: Iterable[dict[str, Any]], columns: list[str], with_errors: bool = False) -> Any:
    """Answers as a `pyarrow.Table` of `columns`; with `error`, answers may be `{"file", "error"}` too."""
    import pyarrow as pa

    texts = {"file", "label", "error"}
    names = [*columns, "error"] if with_errors else columns
    schema = pa.schema([(name, pa.string() if name in texts else pa.float64()) for name in names])
    rows = []
    for answer in answers:
        if "error" in answer:
            rows.append({"file": stored(answer["file"]), "error": answer["error"]})
        else:
            rows.extend(answer_rows(answer, columns))
    return pa.Table.from_pylist(rows, schema=schema)


def write_parquet(answers: Iterable[dict[str, Any]], columns: list[str], path: Path) -> None:
    """Writes answers as one Parquet file."""
    import pyarrow.parquet as pq

    with draft_of(path) as draft:
        pq.write_table(arrow_table(answers, columns), draft)


def write_pieces_to(pieces: Iterable[str], path: Path) -> None:
    """Writes pieces of text as one UTF-8 file."""
    with draft_of(path) as draft, open(draft, "w", encoding="utf-8", newline="") as file:
        write_pieces(pieces, file)


def write_pieces(pieces: Iterable[str], file: TextIO) -> None:
    """Writes each piece as soon as it is known."""
    for piece in pieces:
        file.write(piece)
        file.flush()

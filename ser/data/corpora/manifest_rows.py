"""The rows of a manifest: CSV, JSON Lines, a JSON array, Parquet, XLSX or audformat, as tidy text by column."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ser.audio_files import AUDIO_SUFFIXES
from ser.data.columns import COLUMN_NAMES
from ser.data.corpora.audformat_tables import HEADER, audformat_rows
from ser.data.corpora.spreadsheet import SUFFIXES as SPREADSHEETS
from ser.data.corpora.spreadsheet import check_no_spreadsheet, spreadsheet_rows
from ser.names import cell, is_text, tidy

# Characters. Longer than any path or transcript; the csv module has the same bound.
_MAX_CELL = 131_072
# A name of an audio file, perhaps with a label behind it, where a header should be.
_CLIP = re.compile(rf"\w({'|'.join(map(re.escape, AUDIO_SUFFIXES))})(\s|$)", re.IGNORECASE)
_TEXT_COLUMNS = {"id", *(name for meaning in ("path", "label", "speaker") for name in COLUMN_NAMES[meaning])}
Rows = list[tuple[str, dict[str, Any]]]


def read_rows(source: Path) -> list[tuple[str, dict[str, str]]]:
    """Reads a manifest into `(line in words, cells as text)`; empty cells are left out.

    Raises:
        ValueError: The file is not what its suffix says, holds no clip, or has a cell that is no text, is very long,
            or holds characters that no file can have. The message names the line.
    """
    rows = _rows(source)
    if not rows:
        raise ValueError(f"{source}: is empty: it holds no clip.")
    for where, row in rows:
        if None in row:
            raise ValueError(f"{source}: {where} has more cells than the header; put a cell with a comma in quotes.")
        _check_cells(row, f"{source}: {where}")
    return [(where, _cells(row)) for where, row in rows]


def _rows(source: Path) -> Rows:
    suffix = source.suffix.lower()
    if source.name == HEADER:
        return audformat_rows(source)
    if suffix in SPREADSHEETS:
        return spreadsheet_rows(source)
    return _parquet(source) if suffix in (".parquet", ".pq") else _of_text(source, _text(source))


def is_json_array(source: Path) -> bool:
    """Whether a file begins as a JSON array does."""
    with open(source, "rb") as file:
        return file.read(100).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _text(source: Path) -> str:
    data = source.read_bytes()
    check_no_spreadsheet(source, data)
    try:
        # Excel's "Unicode Text" and PowerShell's `>` write UTF-16 with a mark at its start.
        return data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{source}: is not UTF-8 text: line {line} ({error.reason}); save it as UTF-8.") from None


def _of_text(source: Path, text: str) -> Rows:
    if source.suffix.lower() not in (".jsonl", ".json", ".ndjson"):
        return list(_csv(source, text))
    if entries := _entries(source, text):
        return [(f"entry {number}", _object(entry, source, number)) for number, entry in enumerate(entries, start=1)]
    # Not str.splitlines, which also splits at characters that may be inside a JSON string.
    lines = [(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [(where, _object(_parsed(line, f"{source}: {where}"), source, where)) for where, line in lines]


def _entries(source: Path, text: str) -> list[Any]:
    """The rows of a file that is one JSON value: an array, or an object as pandas writes it; empty for JSON Lines."""
    if text.lstrip().startswith("["):
        return _parsed(text, f"{source}:")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return []
    columns = list(whole.values()) if isinstance(whole, dict) else []
    if columns and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        return [{name: column[key] for name, column in whole.items()} for key in columns[0]]
    return columns[0] if len(columns) == 1 and isinstance(columns[0], list) else []


def _csv(source: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    lines, before = text.lstrip("\n\r"), text.count("\n") - text.lstrip("\n\r").count("\n")
    while lines.startswith("#") or lines[:4].lower() == "sep=":  # remarks, and Excel's hint at the delimiter
        _, _, lines = lines.partition("\n")
        before += 1
    header = lines.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(lines, newline=""), delimiter=max(",;\t|", key=header.count))
    try:
        _check_header(source, reader.fieldnames or [])
        yield from ((f"line {before + reader.line_num}", row) for row in reader if any(row.values()))
    except csv.Error as error:
        line = before + reader.line_num + 1
        raise ValueError(f"{source}: line {line} cannot be read ({error}); correct it.") from None


def _check_header(source: Path, names: Sequence[str]) -> None:
    named = [tidy(name) for name in names]
    if twice := sorted({name for name in named if name and named.count(name) > 1}):
        raise ValueError(f"{source}: has the column {twice[0]!r} {named.count(twice[0])} times; rename or remove one.")
    if any(_CLIP.search(name) for name in named):
        raise ValueError(
            f"{source}: begins with a clip ({', '.join(named)[:80]}); its first line must name the columns: path,label."
        )


def _parquet(source: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        # Not through pandas, which turns whole numbers beside an empty cell into 1.0.
        rows = pyarrow.parquet.read_table(source).to_pylist()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ValueError(f"{source}: is not a Parquet file ({' '.join(str(error).split())}).") from None
    return [(f"row {number}", row) for number, row in enumerate(rows, start=1)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}).") from None


def _object(entry: Any, source: Path, where: str | int) -> dict[str, Any]:
    where = f"entry {where}" if isinstance(where, int) else where
    if not isinstance(entry, dict):
        raise ValueError(f"{source}: {where} is not a JSON object with the keys path and label.")
    return entry


def _check_cells(row: dict[str, Any], where: str) -> None:
    for name, value in row.items():
        if isinstance(value, (dict, list, bytes)) and tidy(name).lower() in _TEXT_COLUMNS:
            raise ValueError(f"{where} has a {type(value).__name__} in the column {name!r}, expected text.")
        for text in (name, str(value)):
            if len(text) > _MAX_CELL:
                raise ValueError(f"{where} has a cell of {len(text)} characters, at most {_MAX_CELL} are read.")
            if "\0" in text or not is_text(text):
                raise ValueError(
                    f"{where} holds characters that are no text in the column {name[:40]!r}: {text[:40]!r}."
                )


def _cells(row: dict[str, Any]) -> dict[str, str]:
    # A path is taken as it is written: the file has that name.
    texts = {tidy(n): str(v or "").strip() if _means_path(n) else cell(v) for n, v in row.items()}
    return {name: text for name, text in texts.items() if text}


def _means_path(name: str) -> bool:
    return tidy(name).lower() in COLUMN_NAMES["path"]

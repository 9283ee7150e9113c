"""Rows of an audformat database: `db.yaml` and a table `db.NAME.csv` (or `.parquet`) for each of its tables.

The format is that of https://audeering.github.io/audformat/data-header.html. Pickled tables are not read, because a
pickle runs code.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ser.data.clips import listed
from ser.data.columns import renamed_columns
from ser.names import cell
from ser.yaml_files import read_yaml

HEADER = "db.yaml"
_FORMATS = (".csv", ".parquet")
# A header lists every speaker with several attributes.
_MAX_NODES = 1_000_000
_INFO = ("speaker", "gender", "split", "transcript", "session")
Row = dict[str, Any]


def audformat_rows(header_path: Path) -> list[tuple[str, Row]]:
    """The labelled files or segments of a database, with what its other tables say about speaker, gender and split.

    Args:
        header_path: `db.yaml`.

    Returns:
        `(row in words, cells)` with the columns `path`, `label` and, where they are known, `start`, `end`, `speaker`,
        `gender`, `split`, `transcript`, `session`.

    Raises:
        ValueError: No table has labels, two tables give different labels, or a table is missing.
    """
    header = read_yaml(header_path, _MAX_NODES)
    tables = {name: _read(header_path, name, own, header) for name, own in (header.get("tables") or {}).items()}
    labelled = {name: rows for name, rows in tables.items() if any("label" in row for _, row in rows)}
    gold = {name: rows for name, rows in labelled.items() if "gold_standard" in name}
    if not labelled:
        columns = {name: sorted({column for _, row in rows for column in row}) for name, rows in tables.items()}
        raise ValueError(f"{header_path}: no table has a column for the label, such as emotion; tables: {columns}.")
    known = _info_of_files(rows for name, rows in tables.items() if name not in labelled)
    found: dict[tuple, tuple[str, str, Row]] = {}
    for name, rows in (gold or labelled).items():
        for where, row in rows:
            key = tuple(row.get(column) for column in ("path", "start", "end"))
            before = found.setdefault(key, (name, where, row))
            if cell(before[2].get("label")) != cell(row.get("label")):
                raise ValueError(
                    f"{header_path}: the tables {before[0]} and {name} give {key[0]} different labels "
                    f"({before[2].get('label')}, {row.get('label')}). Choose one: --manifest db.{before[0]}.csv."
                )
            before[2].update({column: value for column, value in row.items() if column not in before[2]})
    return [
        (where, {**known.get(row.get("path"), {}), **{column: value for column, value in row.items() if value}})
        for _, where, row in found.values()
    ]


def _read(header_path: Path, name: str, table: Mapping[str, Any], header: Mapping[str, Any]) -> list[tuple[str, Row]]:
    """The rows of a table with our names for its columns, the part of its split and the genders of its speakers."""
    rows = _read_table(header_path, name)
    renamed = renamed_columns(dict.fromkeys(column for _, row in rows for column in row))
    schemes = {column: _labels_of(header_path, own, header) for column, own in (table.get("columns") or {}).items()}
    meanings = {renamed.get(column, column): labels for column, labels in schemes.items()}
    split = _split_of(table.get("split_id"), header)
    made = []
    for where, row in rows:
        row = {renamed.get(column, column): value for column, value in row.items()}
        gender = _attribute(meanings.get("speaker", {}).get(row.get("speaker")), "gender")
        label = meanings.get("label", {}).get(row.get("label"))
        row |= {"label": label} if isinstance(label, str) else {}
        made.append((f"table {name}, {where}", {"gender": gender, "split": split} | row))
    return made


def _read_table(header_path: Path, name: str) -> list[tuple[str, Row]]:
    from ser.data.corpora.manifest_rows import read_rows

    paths = [header_path.with_name(f"{header_path.stem}.{name}{suffix}") for suffix in _FORMATS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        pickled = paths[0].with_suffix(".pkl").is_file()
        why = " A pickle is there, which is not read: it could run code." if pickled else ""
        raise ValueError(
            f"{header_path}: its table {name} is not there as {listed(path.name for path in paths)}.{why} Save the "
            "database again: db.save(folder, storage_format='csv')."
        )
    return read_rows(path)


def _labels_of(header_path: Path, column: Any, header: Mapping[str, Any]) -> dict[str | None, Any]:
    """What the scheme of a column says about each of its values; empty where it lists names only."""
    scheme = (header.get("schemes") or {}).get((column or {}).get("scheme_id")) or {}
    labels = scheme.get("labels")
    if isinstance(labels, str):  # the name of a table of its own
        rows = [row for _, row in _read_table(header_path, labels)]
        return {next(iter(row.values()), None): row for row in rows}
    return {str(value): about for value, about in labels.items()} if isinstance(labels, dict) else {}


def _split_of(split_id: str | None, header: Mapping[str, Any]) -> str | None:
    kind = (header.get("splits") or {}).get(split_id) or {}
    part = kind.get("type") or split_id
    return part if part in ("train", "dev", "test") else None


def _attribute(about: Any, name: str) -> Any:
    return about.get(name) if isinstance(about, Mapping) else None


def _info_of_files(tables: Iterable[list[tuple[str, Row]]]) -> dict[str | None, Row]:
    """What tables without labels say about whole files."""
    known: dict[str | None, Row] = {}
    for rows in tables:
        for _, row in rows:
            if not row.get("start") and not row.get("end"):
                known.setdefault(row.get("path"), {}).update({name: row[name] for name in _INFO if row.get(name)})
    return known

"""Finds the recordings that a command line names: files, folders, globs, URLs, lists and tables."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ser.audio_files import AUDIO_SUFFIXES, as_on_disk, walked
from ser.inference.remote import is_remote, open_source, remote_recordings

# Columns of a Parquet file that may name the recordings.
NAMING_COLUMNS = ("file", "path")
_LISTS = (".txt", ".parquet")


def find_recordings(paths: Iterable[str], listed: Iterable[str] = ()) -> list[str]:
    """Lists the recordings that `paths` name, each once, in the order given; a folder's are sorted.

    Args:
        paths: Files, URLs, folders (searched to the bottom for the suffixes of audio, without hidden names; links are
            followed), globs (`**` goes to any depth), lists (`.txt`, a recording a line), Parquet files with a column
            `file` or `path`, and `-`, which stands for `listed`. What exists is never taken for a glob. Folders and
            globs may be in a store (`s3://bucket/calls`).
        listed: Lines of a list, one recording each.

    Returns:
        Paths and URLs. A path that does not exist stays in the list and is reported as one bad recording.

    Raises:
        OSError, ValueError: A folder, glob, list or table holds no recording, or cannot be read.
    """
    found: dict[str, None] = {}
    for path in paths:
        names = [_as_on_disk(line) for line in _lines(listed)] if path == "-" else _named(path)
        found.update(dict.fromkeys(names))
    if not found:
        raise ValueError("PATHS: no recording was named; give files, folders, globs, URLs, or - and a list on stdin.")
    return list(found)


def _lines(listed: Iterable[str]) -> Iterator[str]:
    return (line for line in (raw.rstrip("\r\n") for raw in listed) if line.strip())


def _as_on_disk(path: str) -> str:
    # Only a name that is not there is changed: a Path would write `./a.wav` in another way.
    return path if is_url(path) or path.isascii() or os.path.exists(path) else os.fspath(as_on_disk(path))


def _named(path: str) -> list[str]:
    if is_remote(path):
        return _listed_in(path) if path.endswith(_LISTS) else remote_recordings(path)
    if is_url(path):
        return [path]
    path = _as_on_disk(path)
    if os.path.isfile(path):
        return _listed_in(path) if path.endswith(_LISTS) else [path]
    if os.path.isdir(path):
        names = sorted(_recordings_under(path))
        if not names:
            raise ValueError(f"{path}: the folder holds no audio file ({' '.join(AUDIO_SUFFIXES)}).")
        return names
    if glob.has_magic(path):
        names = [name for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
        if not names:
            raise ValueError(f"{path}: no file matches.")
        return names
    return [path]


def _listed_in(path: str) -> list[str]:
    with open_source(path) as file:
        if path.endswith(".parquet"):
            names = _column_of(path, file)
        else:
            names = list(_lines(os.fsdecode(line) for line in file))
    if not names:
        raise ValueError(f"{path}: names no recording; expected one a line, or a row.")
    return names


def _column_of(path: str, file: BinaryIO) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        named = [name for name in NAMING_COLUMNS if name in table.schema_arrow.names]
        if not named:
            raise ValueError(f"has the columns {', '.join(table.schema_arrow.names)}; expected file or path.")
        cells = table.read(named[:1])[named[0]].to_pylist()
    except (pa.ArrowInvalid, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    for cell in cells:
        if not isinstance(cell, str) or not cell:
            raise ValueError(f"{path}: the column {named[0]!r} holds {cell!r}; expected the path of a recording.")
    return cells


def _recordings_under(folder: str) -> Iterator[str]:
    # Not Path.rglob: names that are not UTF-8 stay as they are, and a million of them cost seconds.
    for parent, folders, names in walked(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                yield os.path.join(parent, name)


def is_url(path: str) -> bool:
    """Whether a recording is named by a web address."""
    return path.startswith(("http://", "https://"))


def printable(text: str) -> str:
    """A name for the terminal: line breaks, escape sequences and bytes that are not UTF-8 are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def check_output(output: Path | None, overwrite: bool, flag: str = "--output") -> None:
    """Refuses to overwrite a file without `--overwrite`.

    Raises:
        FileExistsError: The file exists, and `--overwrite` was not given.
        IsADirectoryError: It is a folder.
    """
    if output is None:
        return
    if output.is_dir():
        remedy = ", or add --resume to fill the folder" if flag == "--output" else ""
        raise IsADirectoryError(f"{flag}: {output} is a folder; give a file{remedy}.")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{flag}: {output} exists; choose another name, or add --overwrite.")

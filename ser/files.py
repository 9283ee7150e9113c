"""Writes files completely or not at all; reads and writes JSON."""

import errno
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def draft_of(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path`; renamed to `path` when the block ends without an error, removed otherwise.

    A reader finds the old file or the new one. A killed process leaves the old file unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def held_by_this_process(path: str | Path, what: str) -> Iterator[None]:
    """Holds a lock for the time of the block; the lock of a dead process is none, though its workers may live on.

    The file says who holds it. It is removed at the end, with the folders that were made for it, if they are empty.

    Args:
        path: The file to lock.
        what: What is held, for the error, such as `--output_dir: runs/mine`.

    Raises:
        BlockingIOError: Another process holds the lock. The message says which one.
    """
    path = Path(path)
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path, what)
    # A lock lasts until every copy of its file is closed, and data loader workers outlive a killed run by seconds.
    os.register_at_fork(after_in_child=file.close)
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(holder))
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released, so that nobody waits on a removed file
        file.close()
        for folder in made:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _locked(path: Path, what: str) -> Any:
    import fcntl

    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            file.close()
            raise BlockingIOError(f"{what} is in use by another run: {_holder_words(holder)}.") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            print(f"{path.parent}: this file system has no locks; start no second run here.", flush=True)
        if _is_same(file, path):
            file.truncate(0)
            return file
        file.close()  # its holder has just removed it


def _is_same(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder_words(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has just started"


def write_text(text: str, path: str | Path) -> None:
    """Writes a text in UTF-8, completely or not at all."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(content: Any, path: str | Path) -> None:
    """Writes JSON in UTF-8 with an indent of two spaces, completely or not at all.

    Args:
        content: Dicts, lists, numbers, texts and `None`; see `json_types`.
        path: File to write.

    Raises:
        TypeError: The content has another type.
    """
    write_text(json.dumps(json_types(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_json_rows(content: dict[str, Any], path: str | Path) -> None:
    """Writes an object as JSON in UTF-8, completely or not at all; one line for each value and each row of a list."""
    lines = ",\n".join(f"{_compact(key)}: {_rows(value)}" for key, value in content.items())
    write_text(f"{{\n{lines}\n}}\n", path)


def parse_json(text: str, flag: str) -> Any:
    """Parses the JSON that a flag holds.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{flag}: {text[:200]!r} is not JSON ({error}).") from None


def read_json(path: str | Path, kind: type = dict, remedy: str = "make it again") -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        kind: Expected type of the content: `dict` or `list`.
        remedy: What to do about a damaged file, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or its content has another type.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); {remedy}.") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a {kind.__name__}; {remedy}.")
    return content


def json_types(content: Any) -> Any:
    """Converts content to JSON types: numpy values to Python values, paths to text, inf and NaN to `None`."""
    if isinstance(content, Mapping):
        return {str(key): json_types(value) for key, value in content.items()}
    if isinstance(content, list | tuple | set | frozenset):
        return [json_types(value) for value in content]
    if hasattr(content, "tolist"):  # numpy, without importing it: `ser --help` must be fast
        return json_types(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


def _rows(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(item, list | tuple | dict) for item in value):
        return "[\n  " + ",\n  ".join(_compact(item) for item in value) + "]"
    if isinstance(value, dict) and value:
        return "{\n  " + ",\n  ".join(f"{_compact(key)}: {_compact(item)}" for key, item in value.items()) + "}"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

"""Files that are written whole or not at all, and JSON in and out."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def draft_of(path: str | Path) -> Iterator[Path]:
    """A draft beside `path` that takes its name when the block ends without an error, and is removed otherwise.

    A reader finds the old file or the new one. A process that is killed leaves the old file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(content: Any, path: str | Path) -> None:
    """Writes JSON in UTF-8 with an indent of two spaces, whole or not at all.

    Args:
        content: Dicts, lists, numbers, texts and `None`; see `json_types`.
        path: Where to.

    Raises:
        TypeError: Content of another kind.
    """
    write_text(json.dumps(json_types(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_json_rows(content: dict[str, Any], path: str | Path) -> None:
    """Writes an object as JSON in UTF-8, whole or not at all: a line for each value, and for each row within it."""
    lines = ",\n".join(f"{_compact(key)}: {_rows(value)}" for key, value in content.items())
    write_text(f"{{\n{lines}\n}}\n", path)


def read_json(path: str | Path, kind: type = dict) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        kind: What it must hold: `dict` or `list`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or holds another kind.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); make it again.") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected a {kind.__name__}; make it again.")
    return content


def json_types(content: Any) -> Any:
    """The same content in the types of JSON: numpy's become Python's, paths text, and what is not finite `None`."""
    if isinstance(content, Mapping):
        return {str(key): json_types(value) for key, value in content.items()}
    if isinstance(content, list | tuple | set | frozenset):
        return [json_types(value) for value in content]
    if hasattr(content, "tolist"):  # an array or number of numpy, which is not imported: `ser --help` is to be quick
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

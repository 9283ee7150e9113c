"""Writing of small files, whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(content: dict[str, Any], path: str | Path) -> None:
    """Writes an object as JSON in UTF-8, one line for each value and for each list or object within it.

    An interrupted run leaves the old file as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{_compact(key)}: {_value(value)}" for key, value in content.items())
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    draft.replace(path)


def _value(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(item, list | tuple | dict) for item in value):
        return "[\n  " + ",\n  ".join(_compact(item) for item in value) + "]"
    if isinstance(value, dict) and value:
        return "{\n  " + ",\n  ".join(f"{_compact(key)}: {_compact(item)}" for key, item in value.items()) + "}"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

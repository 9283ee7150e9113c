"""Finds and removes what must not leave this machine: paths, tokens, audio of the corpus."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser.run_folder import read_run_config

# Flags whose values are files or folders.
_PATH_FLAGS = frozenset(
    ("data_dir", "manifest", "modified_labels", "splits_file", "output_dir", "cache_dir", "logging_dir")
)
# Flags whose values may name a folder, or a repository on the Hub.
_MODEL_FLAGS = frozenset(("model_name_or_path", "_name_or_path", "backbone"))
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{16,}")
_AUDIO_STARTS = (b"RIFF", b"fLaC", b"OggS", b"ID3")


def private_paths(run_dir: Path, config: Mapping[str, Any]) -> list[str]:
    """Folders that a run may name, longest first: home, the working folder, and those of run, data and model."""
    given = [*(config.get(flag) for flag in _PATH_FLAGS), _model_of(run_dir)]
    paths = [Path.home(), Path.cwd(), run_dir, *(Path(path).expanduser() for path in given if isinstance(path, str))]
    paths = [path for path in paths if path.is_absolute() or path.exists()]
    found = {str(form) for path in paths for form in (path.absolute(), path.resolve())}
    return sorted((path for path in found if len(Path(path).parts) > 1), key=len, reverse=True)


def _model_of(run_dir: Path) -> str | None:
    """The backbone as the run's arguments name it; results name it without its path."""
    return read_run_config(run_dir).get("model_name_or_path")


def without_paths(content: Any, paths: Sequence[str], key: str = "") -> Any:
    """Copies nested dicts, lists and texts, with every path of this machine cut to its last name.

    Args:
        paths: The result of `private_paths`; also found inside longer texts.
    """
    if isinstance(content, Mapping):
        return {name: without_paths(value, paths, str(name)) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_paths(value, paths, key) for value in content]
    if not isinstance(content, str):
        return content
    is_folder = key in _MODEL_FLAGS and Path(content).exists()
    if key in _PATH_FLAGS or is_folder:
        return ",".join(_last_name(part) for part in content.split(","))
    if _is_absolute(content):
        return _last_name(content)
    for path in paths:
        content = re.sub(rf"{re.escape(path)}(?![\w.-])[^\s'\"<>,;:)\]]*", lambda found: _last_name(found[0]), content)
    return content


def what_is_private(data: bytes, name: str, paths: Iterable[str], token: str | None = None) -> str | None:
    """Describes what a file holds that must not leave this machine; None if there is nothing.

    Args:
        data: The file's bytes; for weights, the header is enough.
        name: Its name, for the sentence.
        paths: The result of `private_paths`.
        token: The Hub's token.
    """
    for path in paths:
        forms = {path, json.dumps(path)[1:-1], html.escape(path)}
        if any(re.search(re.escape(form.encode()) + rb"(?![\w.-])", data) for form in forms):
            return f"{name} names a folder of this machine, {path}"
    if _TOKEN.search(data) or (token and token.encode() in data):
        return f"{name} holds what looks like a token of the Hub"
    if data.startswith(_AUDIO_STARTS) or b"data:audio/" in data:
        return f"{name} holds audio"
    return None


def _is_absolute(text: str) -> bool:
    return "\n" not in text and bool(re.match(r"(/[^/\s]|~/|[A-Za-z]:[\\/]|\\\\)", text))


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path.strip().rstrip("\\/"))[-1]

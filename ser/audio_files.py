"""The suffixes of audio files, the same for training, audits and prediction, and how files are found on the disk."""

import os
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# libsndfile reads these.
SOUND_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".caf", ".w64", ".sph", ".nist"),
)
# These need the ffmpeg program.
MEDIA_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", ".mp4", ".m4v", ".mov", ".mkv", ".webm")
AUDIO_SUFFIXES = SOUND_SUFFIXES + MEDIA_SUFFIXES


def files_below(root: Path) -> Iterator[Path]:
    """The files below a folder, at any depth, as paths relative to it; links are followed as by [`walked`]."""
    for parent, _, names in walked(root):
        yield from (Path(parent, name).relative_to(root) for name in names)


def walked(root: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`: folder, names of its folders, names of its files. Whoever removes a folder's name skips it.

    Links to folders are followed, except a link to a folder above it, which would never end.
    """
    for parent, folders, names in os.walk(os.fspath(root), followlinks=True):
        links = {name for name in folders if os.path.islink(os.path.join(parent, name))}
        if links:
            above = {os.path.realpath(folder) for folder in (parent, *Path(parent).absolute().parents)}
            links = {name for name in links if os.path.realpath(os.path.join(parent, name)) in above}
            folders[:] = [name for name in folders if name not in links]
        yield parent, folders, names


def as_on_disk(path: str | os.PathLike) -> Path:
    """The path as the disk writes it: `é` may be one character there, or `e` and an accent, as macOS writes it.

    A path that exists is returned as it is, and so is one of which a part is not there in either form.
    """
    path = Path(path)
    if exists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        if exists(found / part):
            found = found / part
            continue
        name = None if part.isascii() else _composed_names(found).get(unicodedata.normalize("NFC", part))
        if name is None:
            return path
        found = found / name
    return found


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; false also for a name that no disk can hold."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name longer than the disk allows, or one with a NUL
        return False


def _composed_names(folder: Path) -> dict[str, str]:
    try:
        return _listed_names(os.fspath(folder), folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listed_names(folder: str, modified_ns: int) -> dict[str, str]:
    """The names in a folder by their composed form; kept until the folder changes."""
    return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder)}

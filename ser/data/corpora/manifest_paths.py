"""Where the files of a manifest are: its paths in all the forms that people write."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ser.audio_files import AUDIO_SUFFIXES, as_on_disk, exists, files_below
from ser.data.clips import counted, listed


def find_paths(paths: Iterable[str], folders: Sequence[Path], outside: bool) -> dict[str, str]:
    """Each path of a manifest as it is used: relative to the first of `folders`, else absolute.

    A relative path is looked for in `folders` and in the current folder, in this order. `~`, `file://` and the `\\` of
    Windows are understood, where no file has the path's literal name.

    Args:
        paths: As the manifest writes them.
        folders: Folders whose files may be used: `--data_dir`, where it is given, and that of the manifest.
        outside: `--allow_outside_paths`: other files may be used too.

    Raises:
        ValueError: Paths lie outside the folders.
    """
    tops = [Path(os.path.abspath(folder)) for folder in folders]
    found, beyond = {}, []
    for text in dict.fromkeys(paths):
        path = _found(text, [*tops, Path.cwd()])
        if path is None:
            beyond.append(text)
            path = _absolute(plain_path(text), tops[0])
        found[text] = path.relative_to(tops[0]).as_posix() if path.is_relative_to(tops[0]) else str(path)
    if beyond and not outside:
        raise ValueError(
            f"--manifest: {counted(len(beyond), 'path')} outside {listed(dict.fromkeys(folders))}: "
            f"{listed(map(repr, beyond), 3)}. Correct the paths or --data_dir, or give --allow_outside_paths true."
        )
    return found


def unused_files(root: Path, used: set[str], deep: bool) -> set[str]:
    """The audio files that a manifest does not name, as paths relative to `root`.

    Args:
        root: What `used` is relative to.
        used: The paths of [`find_paths`].
        deep: Search all of `root`; otherwise only the folders of the used files, as a manifest may lie anywhere.
    """
    folders = {Path(path).parent for path in used if not Path(path).is_absolute()}
    below = files_below(root) if deep else (folder / name for folder in folders for name in _names_in(root / folder))
    audio = (path for path in below if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."))
    return {path.as_posix() for path in audio} - used


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def plain_path(text: str) -> str:
    """A path with `/` between its parts, without `file://`, and with the home folder for `~`."""
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        text = unquote(("" if parts.netloc == "localhost" else parts.netloc) + parts.path)
        text = re.sub(r"^/(?=[A-Za-z]:/)", "", text)
    return os.path.expanduser(text.replace("\\", "/"))


def _found(text: str, folders: Sequence[Path]) -> Path | None:
    """The file, or where it should be; None if it is outside the folders. The last of them is the current folder."""
    plain = plain_path(text)
    forms = dict.fromkeys((text, plain, unquote(plain)))  # annotation tools write `%20` for a blank
    inside = [path for form in forms for folder in folders if (path := _inside(form, folder, folders[:-1]))]
    there = next(filter(exists, inside), None) or next(filter(None, map(_nearly, inside)), None)
    return there or _inside(plain, folders[0], folders[:-1])


def _nearly(path: Path) -> Path | None:
    """The only audio file beside `path` whose name differs in case alone, or has the suffix that `path` lacks.

    Tables are often made on a disk that ignores case, or name clips without `.wav`.
    """
    folder = os.fspath(path.parent)
    try:
        names = _folded_names(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return None
    wanted = [path.name.casefold()]
    if Path(path.name).suffix.lower() not in AUDIO_SUFFIXES:
        wanted += [path.name.casefold() + suffix for suffix in AUDIO_SUFFIXES]
    found = [name for word in wanted for name in names.get(unicodedata.normalize("NFC", word), ())]
    return path.parent / found[0] if len(found) == 1 else None


@lru_cache(maxsize=64)
def _folded_names(folder: str, modified_ns: int) -> dict[str, list[str]]:
    """The audio files of a folder by their names in small letters; kept until the folder changes."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        if Path(name).suffix.lower() in AUDIO_SUFFIXES:
            names.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return names


def _inside(form: str, folder: Path, tops: Sequence[Path]) -> Path | None:
    """The path below `folder`, as on the disk, if it is in `tops`, or if it is relative and stays in `folder`."""
    path = as_on_disk(_absolute(form, folder))
    allowed = tops if Path(form).is_absolute() else [folder, *tops]
    in_one = any(path.is_relative_to(top) or _real(path).is_relative_to(_real(top)) for top in allowed)
    return path if in_one else None


def _absolute(text: str, folder: Path) -> Path:
    """Without `..`: what is compared with the folders is what is opened."""
    return Path(os.path.normpath(folder / text))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

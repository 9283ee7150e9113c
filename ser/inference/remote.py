"""Recordings in object stores and on the Hub (`s3://`, `gs://`, `hf://`, `file://`, ...), through fsspec."""

import glob
import re
from typing import Any, BinaryIO

from ser.audio_files import AUDIO_SUFFIXES

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://")
_BLOCK_BYTES = 1 << 20


def is_remote(path: str) -> bool:
    """Whether fsspec reads a path: it has a scheme, and not that of the web."""
    scheme = _SCHEME.match(path)
    return scheme is not None and scheme[1] not in ("http", "https")


def remote_recordings(path: str) -> list[str]:
    """Lists the recordings that a URL of a file, a folder or a glob names, sorted, as URLs.

    A folder is searched to the bottom for the suffixes of audio, without hidden names. A name with such a suffix is not
    looked for: if it is not there, it is reported as one bad recording, as a local one is.

    Raises:
        ValueError: The store cannot be read, or a folder or glob holds no recording.
    """
    if is_audio(path) and not glob.has_magic(path):
        return [path]
    store, below = _store_of(path)
    try:
        if glob.has_magic(below) and not store.exists(below):
            names, missing = [name for name in store.glob(below) if is_audio(name)], "no recording matches"
        elif store.isdir(below):
            names = [name for name in store.find(below) if is_audio(name) and not _is_hidden(name[len(below) :])]
            missing = f"the folder holds no audio file ({' '.join(AUDIO_SUFFIXES)})"
        else:
            return [path]
    except Exception as error:  # each store has errors of its own, without a common base class
        raise ValueError(f"{path}: cannot be listed ({_words(error)}).") from error
    if not names:
        raise ValueError(f"{path}: {missing}.")
    return [store.unstrip_protocol(name) for name in sorted(names)]


def open_source(path: str) -> BinaryIO:
    """Opens a file, here or in a store, to read its bytes.

    Raises:
        OSError, ValueError: It cannot be read.
    """
    if not is_remote(path):
        return open(path, "rb")
    store, below = _store_of(path)
    try:
        return store.open(below, "rb")
    except Exception as error:
        raise ValueError(f"{path}: cannot be read ({_words(error)}).") from error


def copy_remote(path: str, file: BinaryIO, max_megabytes: float) -> None:
    """Copies what a URL names into an open file.

    Raises:
        ValueError: It cannot be read, or is larger than `max_megabytes`. The message starts with the URL.
    """
    with open_source(path) as source:
        try:
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
                if file.tell() > max_megabytes * 1e6:
                    break
        except Exception as error:
            raise ValueError(f"{path}: cannot be read ({_words(error)}).") from error
    if file.tell() > max_megabytes * 1e6:
        raise ValueError(f"{path}: has more than {max_megabytes:g} MB; raise --max-megabytes.")


def is_audio(name: str) -> bool:
    """Whether a name ends as audio files do."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _store_of(path: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(path)
    except (ImportError, OSError, ValueError) as error:  # no such scheme, or the package that it needs, such as s3fs
        raise ValueError(f"{path}: cannot be read ({_words(error)}).") from None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__

"""Recordings inside a zip: read without unpacking it, so that no member can leave the folder, and within a bound."""

import lzma
import zipfile
import zlib
from pathlib import Path

# Bytes of one recording: an hour and a half of CD sound. zipfile never gives more than the header of a member promises.
_MOST_BYTES = 2**30
# What zipfile and the codecs below it raise for a damaged, encrypted or unknown member.
_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, KeyError, ValueError)


def names_in(archive: Path, remedy: str) -> list[str]:
    """The names of all members of a zip.

    Args:
        remedy: What to do about a damaged zip, for the error.

    Raises:
        ValueError: The zip is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except _ERRORS as error:
        raise ValueError(f"{archive}: is a damaged zip ({error}). {remedy}") from None


def member_of(archive: Path, name: str) -> bytes:
    """The content of one member of a zip.

    Raises:
        ValueError: It cannot be unpacked, or is larger than a recording can be.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            size = opened.getinfo(name).file_size
            data = opened.read(name) if size <= _MOST_BYTES else None
    except _ERRORS as error:
        raise ValueError(f"cannot be unpacked from {archive.name} ({error})") from None
    if data is None:
        raise ValueError(f"unpacks to {size} bytes from {archive.name}, more than the {_MOST_BYTES} of any recording")
    return data

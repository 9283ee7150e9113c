"""Zips of recordings: read member by member and never unpacked, so that no member can leave the folder."""

import lzma
import zipfile
import zlib
from pathlib import Path

# What zipfile and the codecs below it raise for a damaged, encrypted or unknown member.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, KeyError, ValueError)


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
    except ZIP_ERRORS as error:
        raise ValueError(f"{archive}: is a damaged zip ({error}). {remedy}") from None

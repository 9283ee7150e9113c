"""The file of a recording, or its bytes in an archive."""

import zipfile
from pathlib import Path

from ser.data.corpora.archives import ZIP_ERRORS
from ser.data.corpora.recordings import Corpus, Recording

# Bytes of a file that are unpacked into memory; an hour of 16-bit stereo at 48 kHz has 691,200,000.
_MAX_UNPACKED = 2**30


def source_of(recording: Recording, corpus: Corpus) -> Path | bytes:
    """The file of a recording, or its bytes where a zip holds it.

    Raises:
        ValueError: It cannot be unpacked, is a folder, a pipe or a device, which might never end, or is not fetched.
    """
    path = corpus.located(recording.archive or recording.path)
    if path is None:
        raise ValueError("has no file yet: its corpus must be fetched first (Corpus.fetch)")
    if recording.archive:
        try:
            with zipfile.ZipFile(path) as archive:
                size = archive.getinfo(recording.path).file_size
                data = archive.read(recording.path) if size <= _MAX_UNPACKED else None
        except ZIP_ERRORS as error:
            raise ValueError(f"cannot be unpacked from {recording.archive} ({error})") from None
        if data is None:
            raise ValueError(
                f"has {size} bytes in {recording.archive}, at most {_MAX_UNPACKED} are unpacked into memory; "
                "unpack the archive and give the folder"
            )
        return data
    if path.exists() and not path.is_file():
        raise ValueError("is no regular file but a folder, a pipe or a device; it is not read")
    return path

"""The file of a recording, or its bytes in an archive."""

from pathlib import Path

from ser.data.corpora.archives import member_of
from ser.data.corpora.recordings import Corpus, Recording


def source_of(recording: Recording, corpus: Corpus) -> Path | bytes:
    """The file of a recording, or its bytes where a zip holds it.

    Raises:
        ValueError: It cannot be unpacked, or is a folder, a pipe or a device, which might never end.
    """
    if recording.archive:
        return member_of(corpus.located(recording.archive), recording.path)
    path = corpus.located(recording.path)
    if path.exists() and not path.is_file():
        raise ValueError("is no regular file but a folder, a pipe or a device; it is not read")
    return path

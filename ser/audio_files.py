"""The suffixes of audio files, the same for training, audits and prediction, and how a folder is searched for them."""

import os
from collections.abc import Iterator
from pathlib import Path

# libsndfile reads these.
SOUND_SUFFIXES = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".caf", ".w64"),
)
# These need the ffmpeg program.
MEDIA_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", ".mp4", ".m4v", ".mov", ".mkv", ".webm")
AUDIO_SUFFIXES = SOUND_SUFFIXES + MEDIA_SUFFIXES


def files_below(root: Path) -> Iterator[Path]:
    """The files below a folder, at any depth, as paths relative to it.

    Links to folders are followed, except a link to a folder above it, which would never end.
    """
    for parent, folders, names in os.walk(root, followlinks=True):
        above = {os.path.realpath(folder) for folder in (parent, *Path(parent).parents)}
        folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in above]
        yield from (Path(parent, name).relative_to(root) for name in names)

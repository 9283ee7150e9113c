"""The recordings of a split that files hold: which file each clip is in, and its wave."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from ser.audio_files import AUDIO_SUFFIXES, files_below
from ser.clip_names import matched
from ser.data.clips import Clip


def waves_of_clips(
    found: Mapping[str, str], clips: Iterable[Clip], read_wave: Callable[[str], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """The wave of each clip that has a recording; the last recording is kept, because its segments follow each other.

    Raises:
        ValueError: A segment is not inside its recording.
    """
    read = lru_cache(maxsize=1)(read_wave)
    for clip in {clip.id: clip for clip in clips if clip.id in found}.values():
        wave = read(found[clip.id])
        try:
            yield clip.id, clip.segment.cut(wave) if clip.segment else wave
        except ValueError as error:
            raise ValueError(f"{clip.id}: {error}") from None


def recordings_in(folder: str, clips: Iterable[Clip]) -> tuple[dict[str, str], list[str]]:
    """Path of each clip's recording, searched to any depth, and the clips that have none.

    Raises:
        ValueError, FileNotFoundError: There is no such folder, or it holds none of the recordings.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"--audio: {folder} is not a folder.")
    names = sorted(path.as_posix() for path in files_below(Path(folder)) if path.suffix.lower() in AUDIO_SUFFIXES)
    file_of = {clip.id: clip.file or clip.id for clip in clips}
    name_of = matched(sorted(set(file_of.values())), names, "--audio")
    found = {i: str(Path(folder) / name_of[file]) for i, file in file_of.items() if file in name_of}
    if not found:
        raise ValueError(f"--audio: {folder} holds {len(names)} recordings, none of the {len(file_of)} of the split.")
    return found, sorted(set(file_of) - set(found))

"""A folder of the user's own clips, one folder a label inside it."""

from pathlib import Path
from typing import TYPE_CHECKING

from ser.data.corpora.recordings import (
    MEDIA_SUFFIXES,
    SOUND_SUFFIXES,
    Corpus,
    Recording,
    find_audio,
    folder_of,
    own_corpus,
)
from ser.names import cell, tidy

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments


def folder(args: "DataArguments") -> Corpus:
    """One folder a label below `--data_dir`, with audio at any depth; who speaks is not known."""
    root, recordings = folder_of(args), []
    for path in find_audio(root, SOUND_SUFFIXES + MEDIA_SUFFIXES):
        label = cell(Path(path).parts[0])
        if len(Path(path).parts) == 1:
            recordings.append(Recording(path, path, problem="lies beside the folders of the labels, in none of them"))
        elif label is None:
            recordings.append(Recording(path, path, problem="lies in a folder whose name means no label; rename it"))
        else:
            recordings.append(Recording(tidy(Path(path).with_suffix("").as_posix()), path, emotion=label))
    return own_corpus(args, root, recordings)

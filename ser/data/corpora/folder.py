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
    id_of,
    own_corpus,
)

if TYPE_CHECKING:
    from ser.data.arguments import DataArguments


def folder(args: "DataArguments") -> Corpus:
    """One folder a label below `--data_dir`, with audio at any depth; who speaks is not known."""
    root, recordings = folder_of(args), []
    for path in find_audio(root, SOUND_SUFFIXES + MEDIA_SUFFIXES):
        label = Path(path).parts[0]
        if label == path:
            recordings.append(Recording(path, path, problem="lies beside the folders of the labels, in none of them"))
        else:
            recordings.append(Recording(id_of(path), path, emotion=label))
    return own_corpus(args, root, recordings)

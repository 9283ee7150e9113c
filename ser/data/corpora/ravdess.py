"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(
    r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<statement>0[12])-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])"
)
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
_TEXTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


def ravdess(args: "DataArguments") -> Corpus:
    """RAVDESS speech: `03-01-06-01-02-01-12.wav` is audio, speech, fear, normal, second sentence, first take, actor 12.

    Actors of an even number are women. The songs of the same actors are left out.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        return name and {
            "emotion": _EMOTIONS[name["emotion"]],
            "speaker": name["actor"],
            "gender": "male" if int(name["actor"]) % 2 else "female",
            "transcript": _TEXTS[name["statement"]],
        }

    found = find_audio(root)
    paths = [path for path in found if not Path(path).name.startswith("03-02-")]
    if not paths:
        raise FileNotFoundError(f"--data_dir: {str(root)!r} holds songs only (03-02-...); give RAVDESS's speech.")
    grammar = "03-01-06-01-02-01-12.wav: seven numbers, audio only"
    recordings, notes = named_recordings(root, paths, described, grammar)
    facts = {
        "name": "RAVDESS",
        "label_source": "filename",
        "licence": "CC BY-NC-SA 4.0",
        "language": "en",
        "homepage": "https://zenodo.org/record/1188976",
        "citation": "S. R. Livingstone, F. A. Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song "
        "(RAVDESS). PLoS ONE 13(5), 2018.",
        "notes": notes + [f"{len(found) - len(paths)} songs are left out."] * (len(paths) < len(found)),
    }
    return Corpus(facts, recordings, tuple(sorted(_EMOTIONS.values())), root)

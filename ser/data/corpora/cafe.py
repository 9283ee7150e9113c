"""CaFE, the Canadian French Emotional speech dataset."""

import re
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(r"(?P<actor>0[1-9]|1[0-2])-(?P<letter>[CDJNPST])-[12]-(?P<sentence>[1-6])")
_LETTERS = {
    "C": "anger",
    "D": "disgust",
    "J": "happiness",
    "N": "neutral",
    "P": "fear",
    "S": "surprise",
    "T": "sadness",
}
_TEXTS = {
    "1": "Un cheval fou dans mon jardin",
    "2": "Deux ânes aigris au pelage brun",
    "3": "Trois cygnes aveugles au bord du lac",
    "4": "Quatre vieilles truies éléphantesques",
    "5": "Cinq pumas fiers et passionnés",
    "6": "Six ours aimants domestiqués",
}


def cafe(args: "DataArguments") -> Corpus:
    """CaFE: `06-C-2-1.wav` is actor 6, anger (colère), strong, first sentence; actors of an even number are women.

    From the Readme.txt inside the dataset's archives. Not sure: that neutral clips, which have no strength, carry a 1;
    1 and 2 are both taken.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        return name and {
            "emotion": _LETTERS[name["letter"]],
            "speaker": name["actor"],
            "gender": "male" if int(name["actor"]) % 2 else "female",
            "transcript": _TEXTS[name["sentence"]],
        }

    grammar = "06-C-2-1.wav: actor 01 to 12, one of CDJNPST, strength 1 or 2, sentence 1 to 6"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "CaFE",
        "label_source": "filename",
        "licence": "CC BY-NC-SA 4.0",
        "language": "fr",
        "homepage": "https://zenodo.org/record/1478765",
        "citation": "P. Gournay, O. Lahaie, R. Lefebvre: A Canadian French Emotional Speech Dataset. ACM Multimedia "
        "Systems Conference, 2018.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_LETTERS.values())), root)

"""URDU: utterances of Urdu talk shows."""

import re
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_NAME = re.compile(r"(?P<speaker>S(?P<gender>[MF])\d+)_F\d+_(?P<letter>[AHNS])\d+")
_LETTERS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}


def urdu(args: "DataArguments") -> Corpus:
    """URDU: `SM1_F10_A010.wav` is man 1, his tenth file, anger, the tenth of all.

    From the README of github.com/siddiquelatif/URDU-Dataset and the names of the 400 files there. That README counts
    38 speakers, the names have 29. Only three speakers have more than one emotion, so folds of speakers are uneven.
    """
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        return name and {
            "emotion": _LETTERS[name["letter"]],
            "speaker": name["speaker"],
            "gender": "female" if name["gender"] == "F" else "male",
        }

    grammar = "SM1_F10_A010.wav: S, M or F and speaker; F and number; one of A, H, N, S and number"
    recordings, notes = named_recordings(root, find_audio(root), described, grammar)
    facts = {
        "name": "URDU",
        "label_source": "filename",
        "licence": "for research purposes only",
        "language": "ur",
        "homepage": "https://github.com/siddiquelatif/URDU-Dataset",
        "citation": "S. Latif, A. Qayyum, M. Usman, J. Qadir: Cross Lingual Speech Emotion Recognition: Urdu vs. "
        "Western Languages. FIT 2018, arXiv 1812.10411.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_LETTERS.values())), root)

"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset."""

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.corpora.recordings import GENDERS, Corpus, find_audio, folder_of, named_recordings

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

# One file is published with the level X alone: 1040_ITH_SAD_X.wav.
_NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_(?:LO|MD|HI|XX?)")
_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
_TEXTS = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_DEMOGRAPHICS = "VideoDemographics.csv"


def crema_d(args: "DataArguments") -> Corpus:
    """CREMA-D: `1001_IEO_ANG_HI.wav` is actor 1001, "It's eleven o'clock", anger, high.

    The label is the emotion that the actor was asked to play, not what raters heard. Genders are read from
    `VideoDemographics.csv`, in the folder or above it. A clone of the repository holds every clip as WAV and as MP3;
    the WAV is taken.

    From the README of github.com/CheyneyComputerScience/CREMA-D. Not sure: whether one clip without sound
    (1076_MTI_SAD_XX.wav) is in every copy; `--skip_unreadable true` leaves it out.
    """
    root = folder_of(args)
    genders = _genders(root)

    def described(stem: str) -> dict[str, Any] | None:
        name = _NAME.fullmatch(stem)
        if not name or name["code"] not in _EMOTIONS:
            return None
        return {
            "emotion": _EMOTIONS[name["code"]],
            "speaker": name["actor"],
            "gender": genders.get(name["actor"]),
            "transcript": _TEXTS.get(name["sentence"]),
        }

    found = find_audio(root)
    paths = [path for path in found if path.lower().endswith(".wav")] or found
    grammar = "1001_IEO_ANG_HI.wav: actor; sentence; one of ANG, DIS, FEA, HAP, NEU, SAD; LO, MD, HI or XX"
    recordings, notes = named_recordings(root, paths, described, grammar)
    if not genders:
        notes.append(f"{_DEMOGRAPHICS} is not beside the recordings: genders are not known.")
    facts = {
        "name": "CREMA-D",
        "label_source": "filename",
        "licence": "ODbL 1.0, its contents DbCL 1.0",
        "language": "en",
        "homepage": "https://github.com/CheyneyComputerScience/CREMA-D",
        "citation": "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova, R. Verma: CREMA-D: Crowd-sourced "
        "Emotional Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4), 377-390, 2014.",
        "notes": notes,
    }
    return Corpus(facts, recordings, tuple(sorted(_EMOTIONS.values())), root)


def _genders(root: Path) -> dict[str, str]:
    """Gender of each actor; empty without the table."""
    candidates = [*sorted(root.rglob(_DEMOGRAPHICS)), root.resolve().parent / _DEMOGRAPHICS]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"ActorID", "Sex"} <= set(rows[0]):
        raise ValueError(f"{path}: has no columns ActorID and Sex; get it again from CREMA-D's repository.")
    known = {row["ActorID"].strip(): GENDERS.get(row["Sex"].strip().lower()) for row in rows}
    return {actor: gender for actor, gender in known.items() if gender}

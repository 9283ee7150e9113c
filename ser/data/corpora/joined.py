"""Several corpora as one: ids and speakers with the name of their corpus, one set of labels, all facts."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ser.data.corpora.recordings import Corpus, Recording, also_after_fetch, by_id


def prefixed(corpus: Corpus, name: str, speakers: str) -> Corpus:
    """The corpus with its name before every id and path, and `speakers` before every speaker.

    Args:
        name: A name that no other of the joined corpora has.
        speakers: Prefix of its speakers. Two folders of one corpus have the same, because they may share speakers.
    """
    return also_after_fetch(corpus, lambda corpus: _prefixed(corpus, name, speakers))


def join(corpora: dict[str, Corpus]) -> Corpus:
    """Joins corpora, by name, after [`prefixed`]; labels with one name become one label."""
    parts = corpora.values()
    waiting = any(part.fetch for part in parts)
    return Corpus(
        facts=joint_facts({name: part.facts for name, part in corpora.items()}),
        recordings=by_id(recording for part in parts for recording in part.recordings),
        labels=tuple(sorted({label for part in parts for label in part.labels})),
        roots={name: root for part in parts for name, root in part.roots.items()},
        target_columns=next(part.target_columns for part in parts),
        has_split=any(part.has_split for part in parts),
        fetch=(lambda folder: _fetched(corpora, folder)) if waiting else None,
        state=tuple((name, part.state) for name, part in corpora.items()),
    )


def joint_facts(facts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The facts of several corpora as the facts of one; the original ones, by name, are under `corpora`."""
    titles = {name: own.get("name") or name for name, own in facts.items()}
    licences = {name: own.get("licence") for name, own in facts.items()}
    licence = next(iter(licences.values()))
    if len(set(licences.values())) > 1:
        licence = "; ".join(_each(f"{titles[name]}: {text or 'not known'}" for name, text in licences.items()))
    joint = {
        "name": ", ".join(_each(titles.values())),
        "licence": licence,
        "citation": "\n".join(_each(own.get("citation") for own in facts.values())) or None,
    }
    for key in ("label_source", "language", "homepage"):
        joint[key] = ", ".join(_each(own.get(key) for own in facts.values())) or None
    for key in ("notes", "differences"):
        joint[key] = _each(f"{titles[name]}: {line}" for name, own in facts.items() for line in own.get(key, []))
    return {**joint, "corpora": facts}


def _prefixed(corpus: Corpus, name: str, speakers: str) -> Corpus:
    recordings = tuple(_renamed(recording, name, speakers) for recording in corpus.recordings)
    return replace(corpus, recordings=recordings, root=None, roots={name: corpus.root} if corpus.root else {})


def _renamed(recording: Recording, name: str, speakers: str) -> Recording:
    # A member of a zip keeps its path: it is the zip that lies in the corpus's folder.
    column = "archive" if recording.archive else "path"
    path = getattr(recording, column)
    moved: dict[str, Any] = {column: path if Path(path).is_absolute() else f"{name}/{path}"}
    speaker = recording.speaker and f"{speakers}/{recording.speaker}"
    return replace(recording, id=f"{name}/{recording.id}", speaker=speaker, corpus=name, **moved)


def _fetched(corpora: dict[str, Corpus], folder: Path) -> Corpus:
    found = {}
    for name, part in corpora.items():
        if part.fetch:
            (folder / name).mkdir()
            part = part.fetch(folder / name)
        found[name] = part
    return join(found)


def _each(texts: Iterable[str | None]) -> list[str]:
    """The known texts, each once."""
    return list(dict.fromkeys(text for text in texts if text))

"""BibTeX of what a run rests on: its corpora, its encoder and this software."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

_FILE = Path(__file__).parent / "references.bib"
# Keys of that file, by the name of the corpus.
_CORPORA = {"ShEMO": "mohamadnezami2019shemo", "EMO-DB": "burkhardt2005emodb", "RAVDESS": "livingstone2018ravdess"}
# Keys by a part of the encoder's name; the first that fits.
_ENCODERS = (
    ("distilhubert", "chang2021distilhubert"),
    ("hubert", "hsu2021hubert"),
    ("xls-r", "babu2021xlsr"),
    ("xlsr", "conneau2020xlsr"),
    ("wav2vec2", "baevski2020wav2vec"),
    ("wavlm", "chen2021wavlm"),
    ("whisper", "radford2022whisper"),
)


class Entry(NamedTuple):
    """An entry of a bibliography: what `\\cite` names, and its BibTeX."""

    key: str
    text: str


def references_of(results: Mapping[str, Any]) -> list[Entry]:
    """The entries of a run: each corpus, the encoder if its paper is known, and this software."""
    known, corpus = _entries(), results.get("corpus", {})
    found = [_corpus_entry(own, known) for own in (corpus.get("corpora") or {"": corpus}).values() if own.get("name")]
    name = str(results.get("model", {}).get("backbone") or "").lower()
    key = next((key for part, key in _ENCODERS if part in name), None)
    if key is not None:
        found.append(Entry(key, known[key]))
    return list(dict.fromkeys([*found, _software()]))


def bibtex_of(results: Mapping[str, Any]) -> str:
    """The same entries as one text, for a `.bib` file."""
    return "\n\n".join(entry.text for entry in references_of(results))


def _entries() -> dict[str, str]:
    text = _FILE.read_text(encoding="utf-8")
    return {found[1]: found[0].strip() for found in re.finditer(r"^@\w+\{([^,]+),.*?(?=^@|\Z)", text, re.M | re.S)}


def _corpus_entry(corpus: Mapping[str, Any], known: Mapping[str, str]) -> Entry:
    """The corpus' own entry; for another corpus an entry that holds what its facts say."""
    name = str(corpus["name"])
    if name in _CORPORA:
        return Entry(_CORPORA[name], known[_CORPORA[name]])
    key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "corpus"
    notes = [corpus.get("citation"), corpus.get("homepage")]
    note = " ".join(_bibtex_text(text) for text in notes if text)
    lines = [f"@misc{{{key},", f"  title = {{{_bibtex_text(name)}}}{',' if note else ''}"]
    return Entry(key, "\n".join([*lines, *([f"  note  = {{{note}}}"] if note else []), "}"]))


def _bibtex_text(text: Any) -> str:
    """A text within braces: one line, with LaTeX's special characters escaped and no brace that could close it."""
    line = " ".join(str(text).replace("\\", " ").replace("{", "(").replace("}", ")").split())
    return re.sub(r"([&%$#_])", r"\\\1", line)


def _software() -> Entry:
    try:
        number = version("ser")
    except PackageNotFoundError:  # a clone that is not installed
        number = "unknown"
    lines = [
        "@misc{ser,",
        "  title  = {ser: speech emotion recognition, exact in any batch and honest about speakers},",
    ]
    return Entry(
        "ser", "\n".join([*lines, "  author = {{The ser contributors}},", f"  note   = {{Version {number}}}", "}"])
    )

"""Names as people write them: how a cell of a table is read, and which names differ in spelling alone."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# Words for an empty cell, and words for an unknown speaker, as [`folded`] writes them.
_MISSING = frozenset(("nan", "none", "null", "nil", "n/a", "#n/a", "na", "<na>", "nat", "-"))
_UNKNOWN = frozenset(("unknown", "unk", "?", "not known", "نامشخص", "ناشناس", "未知"))
# Characters without width: joiners, direction marks, the byte order mark.
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_EDGES = re.compile(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$")
# Arabic yeh, alef maksura, kaf and other forms of heh, which keyboards and old code pages write instead of the Persian
# letters; and the stroke that only makes a word longer.
_LETTERS = {"ي": "ی", "ى": "ی", "ې": "ی", "ك": "ک", "ڪ": "ک", "ہ": "ه", "ھ": "ه", "ە": "ه", "\u0640": None}
_TO_PERSIAN = str.maketrans(_LETTERS | dict.fromkeys(_INVISIBLE))


def tidy(name: str) -> str:
    """A name without blanks around it, in Unicode's composed form (NFC), so that names that look equal are equal."""
    return _EDGES.sub("", unicodedata.normalize("NFC", name))


def is_text(value: Any) -> bool:
    """Whether a value is text that UTF-8 can hold: JSON can also spell half a character, such as `"\\ud800"`."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def cell(value: Any) -> str | None:
    """A cell of a table as a tidy name; None for an empty one and for the words that stand for one (NaN, None, n/a)."""
    if value is None or value != value:
        return None
    name = tidy(str(value))
    return None if not name or folded(name) in _MISSING else name


def speaker_cell(value: Any) -> str | None:
    """As [`cell`]; None also for the words that mean an unknown speaker (unknown, ?)."""
    name = cell(value)
    return None if name is None or folded(name) in _UNKNOWN else name


@lru_cache(maxsize=1 << 16)
def folded(name: str) -> str:
    """The form of a name in which spellings that mean the same are equal.

    It ignores case, Unicode's compatible forms (NFKD), Arabic letters for Persian ones, digits of other scripts,
    characters without width, the number of blanks, leading zeros, and the ".0" that programs add to whole numbers.

    >>> folded("S01") == folded("s1"), folded("03") == folded("3.0") == folded("۳")
    (True, True)
    """
    # Decomposed before letters are exchanged, because a letter with a mark (ئ) holds one of them.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold()).translate(_TO_PERSIAN)
    text = re.sub(r"\d", lambda digit: str(int(digit[0])), " ".join(text.split()))
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", text))


def alike(names: Iterable[str | None]) -> list[list[str]]:
    """The names that differ in spelling alone, in sorted groups of two and more."""
    groups = defaultdict(set)
    for name in names:
        if name is not None:
            groups[folded(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def check_speakers(speakers: Iterable[str | None], remedy: str = "--speakers_differ true") -> None:
    """Refuses speakers whose names differ in spelling alone.

    Raises:
        ValueError: There are such names; the message lists them.
    """
    groups = alike(speakers)
    if groups:
        listed = "; ".join(" and ".join(map(repr, group)) for group in groups[:10])
        more = f"; and {len(groups) - 10} more" if len(groups) > 10 else ""
        raise ValueError(
            f"Column 'speaker': names that differ in spelling alone: {listed}{more}. One person under two names may be "
            f"in train and in test. Write each name in one way, or, if they are different people, give {remedy}."
        )

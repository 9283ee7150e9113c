"""Markdown that shows text of unknown origin literally, and tables of it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$])")


def safe(text: Any) -> str:
    """A text as one line of Markdown that shows it letter for letter: no markup, link, HTML or table cell begins in it.

    >>> safe("<b>a|b</b>")
    '\\\\<b\\\\>a\\\\|b\\\\</b\\\\>'
    """
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return _SPECIAL.sub(r"\\\1", words.replace("&", "&amp;"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---:") -> str:
    """A Markdown table; the cells must be safe already.

    Args:
        header: Names of the columns.
        rows: As many cells each.
        align: Alignment of all columns but the first: right for figures, or `---` for texts.
    """
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Iterable[str | None]) -> str:
    """A Markdown list of the lines that are there."""
    return "\n".join(f"- {line}" for line in lines if line)


def paragraphs(*texts: str | None) -> str:
    """The texts that are there, with an empty line between."""
    return "\n\n".join(text for text in texts if text)

"""The commands that README and docs/ show."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IN_A_SENTENCE = re.compile(r"`((?:python|ser|torchrun|accelerate|make) [^`]+)`")


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page, split into words: those of ```sh blocks and of blocks that are indented."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for language, block in CODE.findall(text) if language == "sh"]
    blocks += re.findall(r"^(?: {4}\S.*\n)(?: {4}.*\n)*", CODE.sub("", text), re.MULTILINE)
    lines = [line for block in blocks for line in re.split(r"\n(?! )|\n(?= {4}\S)", without_breaks(block))]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words and "..." not in words]


def commands_in_sentences(page: Path) -> list[list[str]]:
    """The command lines within sentences and tables; not a command without its arguments, nor a line with `...`."""
    found = _IN_A_SENTENCE.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    split = [shlex.split(text) for text in found if "..." not in text]
    return [words for words in split if words[0] in ("python", "make") or _has_arguments(words)]


def _has_arguments(words: list[str]) -> bool:
    """Whether more follows `ser predict` or `accelerate launch` than the flag that a sentence is about."""
    return len(words) > 2 and (words[0] != "ser" or not words[2].startswith("-"))


def without_breaks(block: str) -> str:
    """A block in which a command that goes on in the next line, or within quotes, is one line."""
    block = re.sub(r"\\\n\s*", " ", block)
    return re.sub(r"'[^'\n]*\n[^']*'", lambda quoted: quoted[0].replace("\n", " "), block)

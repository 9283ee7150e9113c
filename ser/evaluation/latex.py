"""Tables of scores in LaTeX, for booktabs: the same rows as on the terminal, with every text escaped."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ser.evaluation import format as words
from ser.evaluation.bibliography import references_of
from ser.evaluation.method import method_sentences

Rows = Sequence[Sequence[str]]
_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{EN DASH}": "--",
}
_PREAMBLE = "% \\usepackage{booktabs}; brackets are 95 % intervals; the paragraph on the method says over what"


def escape(text: Any) -> str:
    """A text that LaTeX prints letter for letter, on one line.

    >>> escape("90 % of a_b")
    '90 \\\\% of a\\\\_b'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(str(text).split(" ")).replace("\n", " "))


def latex_table(rows: Rows, caption: str, label: str) -> str:
    """A table of booktabs: the first column to the left, the others to the right.

    Args:
        rows: Cells as text, the header first; all rows have as many.
        caption: What the table shows, as plain text.
        label: What `\\ref` names, such as `tab:runs`.
    """
    header, *body = ([escape(cell) for cell in row] for row in rows)
    lines = [
        _PREAMBLE,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{re.sub('[^a-zA-Z0-9:-]+', '-', label)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def run_in_latex(results: Mapping[str, Any]) -> str:
    """Scores, classes, the paragraph on the method and, as comments, BibTeX of all that is to be cited."""
    entries = references_of(results)
    cited = ", ".join(f"\\cite{{{entry.key}}}" for entry in entries)
    method = " ".join(escape(sentence) for sentence in method_sentences(results))
    bibtex = "\n".join(f"% {line}" for entry in entries for line in entry.text.splitlines())
    name = results.get("corpus", {}).get("name") or "corpus"
    tables = [latex_table(_scores(results), f"{name}, {words.setting_of(dict(results))}.", f"tab:scores-{name}")]
    if classes := _classes(results):
        tables.append(latex_table(classes, f"Each class, {name}.", f"tab:classes-{name}"))
    return "\n\n".join([*tables, f"\\paragraph{{Method.}} {method} % cite: {cited}", bibtex])


def _scores(results: Mapping[str, Any]) -> list[list[str]]:
    parts = [part for part in ("test", "dev") if part in results]
    rows = [["", *parts]]
    for key in words.HEADLINES:
        if any(key in results[part] for part in parts):
            rows.append([words.TITLES[key], *(_with_interval(results[part], key) for part in parts)])
    rows.append(["clips", *(words.format_count(results[part].get("n")) for part in parts)])
    for baseline in words.baselines_of(dict(results)).values():
        shown = words.format_interval(baseline.get("uar"), baseline.get("interval"))
        rows.append([f"UAR of {baseline.get('name', 'a baseline')}", shown, *[""] * (len(parts) - 1)])
    return rows


def _classes(results: Mapping[str, Any]) -> list[list[str]]:
    part = results.get(words.part_of(dict(results)), {})
    recalls = part.get("intervals", {}).get("recall", {})
    rows = [
        [
            str(label),
            words.format_interval(entry.get("recall"), recalls.get(label)),
            words.format_number(entry.get("precision")),
            words.format_number(entry.get("f1")),
            words.format_count(entry.get("support")),
        ]
        for label, entry in part.get("per_class", {}).items()
    ]
    return [["class", "recall", "precision", "F1", "clips"], *rows] if rows else []


def _with_interval(scores: Mapping[str, Any], key: str) -> str:
    return words.format_interval(scores.get(key), scores.get("intervals", {}).get(key))

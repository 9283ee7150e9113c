"""The findings of an audit in sentences: the same ones for the terminal, the report and the model card."""

from collections.abc import Mapping
from typing import Any

# The name of each kind of sentence in the terminal.
_KINDS = {"leak": "LEAK", "clean": "clean", "warning": "warning", "open": "not done"}
_RECORDINGS = {"identical_audio": "identical recordings", "near_identical_audio": "near-identical recordings"}


def audit_sentences(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The findings as pairs of kind and sentence; a kind is "leak", "clean", "warning" or "open" (not checked).

    Args:
        audit: From `ser.data.audit`, or the section `audit` of `results.json`; empty where no audit was made.
    """
    if not audit:
        return []
    found = [("leak", sentence) for sentence in audit.get("leaks", [])]
    shared, checked = audit.get("shared_speakers") or {}, audit.get("checked") or {}
    if shared and not any(pair.get("shared") for pair in shared.values()):
        parts = audit.get("parts", {}).items()
        counts = ", ".join(f"{part} {table['speakers']}" for part, table in parts if table.get("speakers"))
        found.append(("clean", f"No speaker is in two parts{f' ({counts})' if counts else ''}."))
    for key, name in _RECORDINGS.items():
        if not checked.get(key):
            found.append(("open", f"Nobody looked for {name}."))
        elif not audit.get(key):
            found.append(("clean", f"There are no {name} in two parts."))
    return found + [("warning", sentence) for sentence in audit.get("warnings", [])]


def audit_table(found: Mapping[str, Any]) -> str:
    """The text of an audit for the terminal: the sentences, then the counts of each part."""
    parts = {part: table for part, table in found["parts"].items() if table["clips"]}
    rows = [["", *parts], ["clips", *(table["clips"] for table in parts.values())]]
    rows.append(["speakers", *("?" if table["speakers"] is None else table["speakers"] for table in parts.values())])
    for gender in sorted({gender for table in parts.values() for gender in table["genders"]}):
        rows.append([gender, *(table["genders"].get(gender, 0) for table in parts.values())])
    for label in next(iter(parts.values()))["clips_per_class"]:
        rows.append([label, *(_clips_and_speakers(table, label) for table in parts.values())])
    lines = [] if found["leaks"] else ["No leak was found."]
    lines += [f"{_KINDS[kind]:8} {sentence}" for kind, sentence in audit_sentences(found)]
    if not all(found["checked"][key] for key in _RECORDINGS):
        lines.append("To compare recordings, give their folder with --audio.")
    return "\n".join([*lines, "", *_aligned(rows), "", "A class: clips (speakers)."])


def _clips_and_speakers(table: Mapping[str, Any], label: str) -> str:
    speakers = table["speakers_per_class"][label]
    return f"{table['clips_per_class'][label]} ({'?' if speakers is None else speakers})"


def _aligned(rows: list[list[Any]]) -> list[str]:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]

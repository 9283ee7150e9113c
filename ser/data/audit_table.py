"""An audit as text for the terminal."""

from typing import Any


def audit_table(found: dict[str, Any]) -> str:
    """Lays out what `audit` returned: the verdict and its reasons, then the counts of each part."""
    parts = {part: table for part, table in found["parts"].items() if table["clips"]}
    rows = [["", *parts], ["clips", *(table["clips"] for table in parts.values())]]
    rows.append(["speakers", *("?" if table["speakers"] is None else table["speakers"] for table in parts.values())])
    for gender in sorted({gender for table in parts.values() for gender in table["genders"]}):
        rows.append([gender, *(table["genders"].get(gender, 0) for table in parts.values())])
    for label in next(iter(parts.values()))["clips_per_class"]:
        rows.append([label, *(_cell(table, label) for table in parts.values())])
    lines = [f"LEAK     {sentence}" for sentence in found["leaks"]] or ["No leak was found."]
    lines += [f"clean    {sentence}" for sentence in _clean(found)]
    lines += [f"warning  {sentence}" for sentence in found["warnings"]]
    lines += [f"not done {sentence}" for sentence in _not_done(found["checked"])]
    return "\n".join([*lines, "", *_aligned(rows), "", "A class: clips (speakers)."])


def _cell(table: dict[str, Any], label: str) -> str:
    speakers = table["speakers_per_class"][label]
    return f"{table['clips_per_class'][label]} ({'?' if speakers is None else speakers})"


def _clean(found: dict[str, Any]) -> list[str]:
    """What was looked for and not found."""
    sentences, shared = [], found["shared_speakers"]
    if shared and not any(row["shared"] for row in shared.values()):
        counts = (f"{part} {table['speakers']}" for part, table in found["parts"].items() if table["speakers"])
        sentences.append(f"no speaker is in two parts ({', '.join(counts)}).")
    for kind in ("identical_audio", "near_identical_audio"):
        if found["checked"][kind] and not found[kind]:
            sentences.append(f"no {kind.replace('_', ' ').replace('near ', 'near-')} is in two parts.")
    return sentences


def _not_done(checked: dict[str, bool]) -> list[str]:
    if not checked["identical_audio"]:
        return ["recordings were not compared: give their folder with --audio."]
    return [] if checked["near_identical_audio"] else ["near-identical audio was not looked for: give --audio."]


def _aligned(rows: list[list[Any]]) -> list[str]:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]

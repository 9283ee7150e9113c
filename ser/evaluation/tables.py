"""Tables of the report: rows of names and texts from `results.json`, formatted by `ser.evaluation.format`."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ser.evaluation import format as words


def facts(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few figures under the headline."""
    part = words.part_of(results)
    scores, chance = results.get(part, {}), results.get("chance", {})
    bounds = scores.get("intervals", {})
    guessing = [f"{words.TITLES[key]} {words.format_number(chance[key])}" for key in words.HEADLINES if key in chance]
    facts = [
        ("chance level", ", ".join(guessing)) if guessing else None,
        *(
            (words.TITLES[key], words.format_interval(scores[key], bounds.get(key)))
            for key in ("accuracy", "macro_f1")
            if key in scores
        ),
        (f"{part} clips", words.format_count(scores.get("n"))),
        (f"{part} speakers", words.format_count(scores.get("clusters")))
        if scores.get("interval_unit") == "speaker"
        else None,
    ]
    return [fact for fact in facts if fact]


def faults(results: Mapping[str, Any]) -> list[str]:
    """What is wrong with the protocol, in sentences."""
    protocol = results.get("protocol", {})
    known = protocol.get("what_is_wrong") or []
    if protocol.get("speaker_independent") is False and not known:
        return [
            "It is speaker-dependent: speakers of test clips may be in train. Expect lower scores for new speakers."
        ]
    return list(known)


def runs(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of folds and seeds; None for a single run."""
    runs = results.get("per_run", [])
    if len(runs) < 2:
        return None
    keys = [key for key in words.HEADLINES if key in runs[0]]
    spreads = {name: results[name] for name in ("folds", "seeds") if results.get(name)}
    return {
        "scores": [words.TITLES[key] for key in keys],
        "rows": [{**run, "scores": [run.get(key) for key in keys]} for run in runs],
        "spreads": {name: [spread.get(key, {}) for key in keys] for name, spread in spreads.items()},
    }


def corpus(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    corpus = results.get("corpus", {})
    hours = corpus.get("hours")
    found = {
        "name": corpus.get("name"),
        "language": corpus.get("language"),
        "labels from": results.get("label_source"),
        "clips": words.format_count(corpus["clips"]) if corpus.get("clips") else None,
        "speakers": words.format_count(corpus["speakers"]) if corpus.get("speakers") else None,
        "length in all": words.format_seconds(3600 * hours) if hours else None,
        "home page": corpus.get("homepage"),
        "differs from what is published": "\n".join(corpus.get("differences") or []),
    }
    return [(name, str(value)) for name, value in found.items() if value]


def corpora(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of corpora; None where one was tested."""
    found = results.get("corpora")
    if not found:
        return None
    keys = [key for key in words.HEADLINES if key in next(iter(found.values()))]
    rows = [
        {
            "name": name,
            "scores": [words.format_interval(scores.get(key), scores.get("intervals", {}).get(key)) for key in keys],
            "clips": words.format_count(scores.get("n")),
            "speakers": words.format_count(scores.get("speakers")),
            "lacks": ", ".join(scores.get("lacks") or []),
        }
        for name, scores in found.items()
    ]
    return {"scores": [words.TITLES[key] for key in keys], "rows": rows}


def snr(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of groups of clips by signal-to-noise ratio; None where there is none."""
    found = results.get("snr")
    if not found:
        return None
    keys = [key for key in words.HEADLINES if key in found[0]]
    rows = [
        {
            "name": f"{words.format_number(group['low'], 1)} to {words.format_number(group['high'], 1)} dB",
            "scores": [words.format_interval(group.get(key), group.get("intervals", {}).get(key)) for key in keys],
            "clips": words.format_count(group.get("n")),
            "speakers": words.format_count(group.get("speakers")),
        }
        for group in found
    ]
    return {"scores": [words.TITLES[key] for key in keys], "rows": rows}


def baselines(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the baselines and, last, of the model: `name`, `uar`, `interval` and, for a baseline, `difference`.

    Empty where there is no baseline.
    """
    found = words.baselines_of(dict(results))
    if not found:
        return []
    _, value, interval = words.metric_of(dict(results))
    own = {"name": "this model", "uar": value, "interval": interval}
    return [*found.values(), own]


def split(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    protocol = results.get("protocol", {})
    clips = protocol.get("clips") or {}
    found = {
        "protocol": words.protocol_words(protocol) if protocol.get("name") else None,
        "hash of the split (SHA-256)": protocol.get("split_sha256"),
        "seed of the split": protocol.get("split_seed"),
        "clips": ", ".join(f"{part} {words.format_count(number)}" for part, number in clips.items()),
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "")]


def seconds(results: Mapping[str, Any]) -> dict[str, str]:
    seconds = results.get("seconds", {})
    return {f"time to {part}": words.format_seconds(value) for part, value in seconds.items() if value is not None}


def pairs(content: Any, write: Callable[[Any], str] | None = None, prefix: str = "") -> list[tuple[str, str]]:
    """Nested sections as rows of name and text; empty values are left out."""
    if isinstance(content, Mapping):
        rows = (pairs(value, write, f"{prefix}{key} ") for key, value in content.items())
        return [row for group in rows for row in group]
    if content in (None, "", [], {}):
        return []
    return [(prefix.strip().replace("_", " ") if write else prefix.strip(), (write or as_json)(content))]


def as_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def in_words(value: Any) -> str:
    """A value of results.json for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return words.format_count(value)
    if isinstance(value, float):
        return words.format_number(value)
    return "\n".join(map(as_json, value)) if isinstance(value, list) else str(value)

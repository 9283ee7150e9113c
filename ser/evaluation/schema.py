"""The schema of `results.json`: which types the values have that reports and tables read, checked once on reading.

A key may be absent, since a run has only the sections that it could compute. Keys that end in "!" here are needed, and
objects and lists may be null only where their key ends in "?"; other values may always be null.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# What errors call the types of JSON.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "a number": (int, float),
    "a count": int,
    "true or false": bool,
    "a list": list,
}
_KINDS["an object"] = dict
# Keys whose values are objects with one entry for each class, speaker, condition, ...: their names are not known.
EACH = "*"

_INTERVALS = {EACH: "interval", "recall": {EACH: "interval"}, "per_dimension": {EACH: "interval"}}
_SCORES = dict.fromkeys(
    ("uar", "accuracy", "macro_f1", "weighted_f1", "ccc", "nll", "brier", "ece", "classwise_ece"), "a number"
)
_COMPARED = {"uar": "a number", "interval": "interval", "p": "a number"}
_BASELINE = {"name": "text", "uar": "a number", "interval": "interval", "difference": _COMPARED}
_PART = {
    **_SCORES,
    "n!": "a number",
    "clusters": "a count",
    "interval_method": "text",
    "interval_unit": "text",
    "intervals": _INTERVALS,
    "few_speakers": {EACH: "a count"},
    "per_class": {EACH: {"support!": "a count", EACH: "a number"}},
    "per_dimension": {EACH: {EACH: "a number"}},
    "confusion": ["a list of numbers"],
}
_GROUP = {
    **_SCORES,
    "n": "a number",
    "speakers": "a count",
    "interval_unit": "text",
    "intervals": {EACH: "interval"},
    "between": ["text"],
    "lacks?": ["text"],
    "gender": "text",
}
_BIN = {"confidence!": "a number", "accuracy!": "a number", "accuracy_interval!": "interval", "n": "a number"}
_WHEN = ("before", "after")
_READING = {"classwise_ece!": "a number", "accuracy!": "a number", "uar!": "a number"}
_ANSWERED = {"precision": "a number", "interval": "interval", "coverage!": "a number", "n": "a number"}
_AUDITED = {
    "clips": "a count",
    "speakers": "a count",
    "genders?": {EACH: "a count"},
    "clips_per_class?": {EACH: "a count"},
    "speakers_per_class?": {EACH: "a count"},
}
SCHEMA: dict[str, Any] = {
    "task!": "text",
    "labels!": ["text"],
    "label_source": "text",
    "which_to_print": "text",
    "test": _PART,
    "dev": _PART,
    "chance": {EACH: "a number"},
    "protocol": {
        "name": "text",
        "speaker_independent": "true or false",
        "num_folds": "a count",
        "clips?": {EACH: "a count"},
        "folds": ["a count"],
        "seeds": ["a count"],
        "what_is_wrong?": ["text"],
    },
    "corpus": {
        "name": "text",
        "language": "text",
        "clips": "a count",
        "speakers": "a count",
        "hours": "a number",
        "clips_per_class?": {EACH: "a count"},
        "notes?": ["text"],
        "differences?": ["text"],
        "skipped?": [{"path": "text", "reason": "text"}],
    },
    "calibration": {
        **{
            f"{part}{key}_{when}": "a number"
            for part in ("", "dev_")
            for key in _SCORES
            for when in ("before", "after")
        },
        "temperature": "a number",
        "reliability": [_BIN],
        "reliability_before": [_BIN],
        "abstain": {"coverage!": "a list of numbers", "accuracy!": "a list of numbers"},
        "readings": {"without_prior!": _READING, "with_prior!": _READING},
        "precision_90?": {"threshold": "a number", "test?": _ANSWERED, "dev?": _ANSWERED, "per_run": [{}]},
        "per_run": [{}],
    },
    "per_run": [{"seed!": "a count", "fold!": "a count", **_SCORES, "n": "a number"}],
    "folds": {EACH: {EACH: "a number"}},
    "seeds": {EACH: {EACH: "a number"}},
    "gender": {"gap": {**_GROUP, "between!": ["text"], "intervals!": {EACH: "interval"}}, EACH: _GROUP},
    "speakers": {"per_speaker": {EACH: _GROUP}, "worst": ["text"]},
    "corpora": {EACH: _GROUP},
    "snr": [{**_GROUP, "low!": "a number", "high!": "a number"}],
    "worst_clips": [{"id!": "text", "confidence": "a number", "p_truth": "a number"}],
    "layers": [{"uar": "a number", "ccc": "a number", "interval": "interval", "chosen!": "a count"}],
    "model": {},
    "config": {},
    "versions": {},
    "seconds": {EACH: "a number"},
    "final_fit": {"clips": "a count"},
    "audit": {
        "leaks": ["text"],
        "warnings": ["text"],
        "checked?": {EACH: "true or false"},
        "parts": {EACH: _AUDITED},
        "shared_speakers?": {EACH: {"shared": "a count"}},
    },
    "baseline": {**_BASELINE, "functionals": _BASELINE, "encoder": _BASELINE},
    "robustness": {
        "clean": {"uar": "a number", "interval": "interval"},
        "conditions": {
            EACH: {"uar": "a number", "interval": "interval", "drop": "a number", "drop_interval": "interval"}
        },
    },
}
# `training_log.json`.
LOG_SCHEMA = [dict.fromkeys(("epoch", "loss", "eval_loss", "eval_uar", "eval_ccc"), "a number")]


def check_results(results: Mapping[str, Any], source: str | Path) -> None:
    """Checks the types of everything in `results.json` that a report or a table reads.

    Args:
        results: The content of `results.json`.
        source: The file, for errors.

    Raises:
        ValueError: A value has another type, or a needed key is absent; the message names file and key.
    """
    _check(results, SCHEMA, "", lambda key, found: _error(source, key, found))
    shares = results.get("test", results.get("dev")) or {}
    confusion, labels = shares.get("confusion"), results["labels"]
    if confusion is not None and [len(row) for row in confusion] != [len(labels)] * len(labels):
        raise _error(source, "confusion", f"is no table of {len(labels)} rows and columns, one for each of `labels`")


def check_log(log: list[Any], source: str | Path) -> None:
    """Checks the entries of `training_log.json`, as `check_results` does.

    Raises:
        ValueError: An entry or a value has another type.
    """
    _check(log, LOG_SCHEMA, "", lambda key, found: _error(source, key, found))


def _check(value: Any, schema: Any, key: str, error: Callable[[str, str], ValueError]) -> None:
    """Checks one value; `error` makes the error from the key and what was found."""
    kind = schema if isinstance(schema, str) else "a list" if isinstance(schema, list) else "an object"
    if value is None and isinstance(schema, str):
        return
    if not _fits(value, kind):
        raise error(key, f"is {str(value)[:40]!r}, expected {kind}")
    if isinstance(schema, list):
        for index, item in enumerate(value):
            if item is None:
                raise error(f"{key}[{index}]", "is null, expected a value")
            _check(item, schema[0], f"{key}[{index}]", error)
    elif isinstance(schema, dict):
        known = {name.rstrip("!?"): (name[-1], one) for name, one in schema.items()}
        for name, (mark, _) in known.items():
            if mark == "!" and value.get(name) is None:
                raise error(f"{key}.{name}".lstrip("."), "is not there")
        for name, item in value.items():
            mark, one = known.get(name) or known.get(EACH) or ("", None)
            if one is not None and not (mark == "?" and item is None):
                _check(item, one, f"{key}.{name}".lstrip("."), error)


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a kind. True is no number, and JSON as it is written here holds no NaN."""
    if kind in ("interval", "a list of numbers"):
        right_length = isinstance(value, list) and (kind != "interval" or len(value) == 2)
        return right_length and all(_fits(item, "a number") for item in value)
    if kind in ("a number", "a count"):
        is_of_kind = isinstance(value, _KINDS[kind]) and not isinstance(value, bool)
        return is_of_kind and math.isfinite(value)
    return isinstance(value, _KINDS[kind])


def _error(source: str | Path, key: str, found: str) -> ValueError:
    name = f"`{key}`" if key else "its content"
    return ValueError(f"{source}: {name} {found}; the file is damaged or was edited: make it again with run_ser.py")

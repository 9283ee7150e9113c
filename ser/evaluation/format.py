"""Figures in words: every number of `results.json` becomes text here.

The report, the model card and the command line all write their figures through these functions, so that no page can
show another value, another rounding or another name for the protocol than the next.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

DIGITS = 3
MISSING = "n/a"
# What each score is called in tables and sentences, by its key in `results.json`.
TITLES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro-F1", "weighted_f1": "weighted F1", "ccc": "CCC"}
TITLES |= {"nll": "negative log-likelihood", "brier": "Brier score"}
TITLES |= {"ece": "expected calibration error", "classwise_ece": "class-wise calibration error"}
# For readers who may not know the short names.
LONG_TITLES = TITLES | {"uar": "UAR (unweighted average recall)", "ccc": "CCC (concordance correlation)"}
# The scores of a classification that tables show, and with CCC those of any run.
SCORES = ("uar", "accuracy", "macro_f1")
HEADLINES = (*SCORES, "ccc")
_MINUS = "\N{MINUS SIGN}"
# `{folds}` is the number of folds.
_PROTOCOLS = {
    "speaker_kfold": "{folds}-fold",
    "leave_one_speaker_out": "leave one speaker out",
    "leave_one_session_out": "leave one session out",
    "leave_one_corpus_out": "leave one corpus out",
    "train_on_one_corpus": "training on one corpus",
    "random_kfold": "random {folds}-fold",
    "random_holdout": "random 80/20 hold-out",
    "given": "split given with the corpus",
    "emobox_fold_1": "EmoBox fold 1",
    "nkululeko": "nkululeko hold-out",
}
# The report of pooled folds shows two figures; a reader must know which one is the result.
WHICH_TO_PRINT = (
    "Print the figure of the pooled test clips: each clip counts once, and its interval is over speakers. The mean "
    "over folds counts a small fold like a large one, and the UAR of a fold that lacks a class is that of an easier "
    "task; its deviation says how folds differ and is no interval. Print the mean over folds only beside papers that "
    "average folds, and call it so."
)
_OF_SEVERAL_FOLDS = (
    *("speaker_kfold", "random_kfold", "leave_one_speaker_out", "leave_one_session_out"),
    *("leave_one_corpus_out", "train_on_one_corpus"),
)


def format_number(value: float | None, digits: int = DIGITS) -> str:
    """A figure with a fixed number of decimals: `0.623`; `n/a` for None and NaN.

    >>> format_number(0.6226)
    '0.623'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    # A value that rounds to zero has no sign: "-0.000" would read as a loss.
    return text.lstrip("-") if float(text) == 0 else text.replace("-", _MINUS)


def format_signed(value: float | None, digits: int = DIGITS) -> str:
    """A difference, with its sign: `+0.041`.

    >>> format_signed(0.0412)
    '+0.041'
    """
    text = format_number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text != MISSING and float(text) else text


def format_bracket(interval: Sequence[float | None] | None, digits: int = DIGITS, signed: bool = False) -> str:
    """An interval alone: `[0.581, 0.664]`; nothing when there is none.

    >>> format_bracket([0.5806, 0.6641])
    '[0.581, 0.664]'
    """
    if interval is None:
        return ""
    low, high = (format_signed(bound, digits) if signed else format_number(bound, digits) for bound in interval)
    return f"[{low}, {high}]"


def format_interval(value: float | None, interval: Sequence[float | None] | None = None, digits: int = DIGITS) -> str:
    """A figure and its interval: `0.623 [0.581, 0.664]`; the figure alone when there is no interval.

    >>> format_interval(0.6226, [0.5806, 0.6641])
    '0.623 [0.581, 0.664]'
    """
    return f"{format_number(value, digits)} {format_bracket(interval, digits)}".rstrip()


def format_difference(value: float | None, interval: Sequence[float | None] | None = None) -> str:
    """A difference and its interval, signed: `+0.041 [-0.010, +0.092]`."""
    return f"{format_signed(value)} {format_bracket(interval, signed=True)}".rstrip()


def format_p(p: float | None) -> str:
    """A p value: `p = 0.032`, or `p < 0.001` below that.

    >>> format_p(0.0002)
    'p < 0.001'
    """
    if p is None or not math.isfinite(p):
        return f"p {MISSING}"
    return "p < 0.001" if p < 0.001 else f"p = {format_number(p)}"


def format_percent(share: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage: `62 %`.

    >>> format_percent(0.62)
    '62\\xa0%'
    """
    return (
        MISSING
        if share is None or not math.isfinite(share)
        else f"{format_number(100 * share, digits)}\N{NO-BREAK SPACE}%"
    )


def format_count(count: float | None) -> str:
    """A count with its thousands set apart: `3,000`; a mean of counts with one decimal: `12.3`."""
    if count is None:
        return MISSING
    return f"{int(count):,}" if float(count).is_integer() else f"{count:,.1f}"


def format_seconds(seconds: float | None) -> str:
    """A span of time in the two units that matter: `1 h 5 min`, `2 min 5 s`, `3.4 s`.

    >>> format_seconds(125)
    '2 min 5 s'
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def protocol_words(protocol: dict) -> str:
    """How the clips were split: `speaker-independent 5-fold`, `speaker-dependent random 80/20 hold-out (seeds 1, 2)`.

    Args:
        protocol: The section of that name in `results.json`.
    """
    number, folds, seeds = protocol.get("num_folds") or 1, protocol.get("folds") or [], protocol.get("seeds") or []
    name = str(protocol.get("name", "unknown protocol"))
    words = _PROTOCOLS.get(name, name).format(folds=number)
    independent = protocol.get("speaker_independent")
    if independent is not None:
        words = f"speaker-{'independent' if independent else 'dependent'} {words}"
    notes = []
    if name in _OF_SEVERAL_FOLDS and 0 < len(folds) < number:
        notes.append(f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))} only")
    if len(seeds) > 1:
        notes.append(f"seeds {', '.join(map(str, seeds))}")
    return f"{words} ({'; '.join(notes)})" if notes else words


def part_of(results: Mapping[str, Any]) -> str:
    """The part that a run's figures are of: "test", or "dev" where test was not scored."""
    return "test" if "test" in results else "dev"


def metric_of(results: Mapping[str, Any]) -> tuple[str, float | None, list[float] | None]:
    """The score that stands for the run: its name, its value and its interval (None where there is none).

    UAR of test; mean CCC for a regression; of dev, and named so, where test was not scored.

    Args:
        results: The content of `results.json`.
    """
    part = part_of(results)
    key = "ccc" if results.get("task") == "regression" else "uar"
    name = TITLES[key]
    scores = results.get(part, {})
    return (name if part == "test" else f"dev {name}"), scores.get(key), scores.get("intervals", {}).get(key)


def few_speakers_of(scores: dict) -> str:
    """Why an interval is wide where only one or two speakers have a class; empty where there is no such class.

    Args:
        scores: The section `test` or `dev` of `results.json`.
    """
    few = scores.get("few_speakers")
    if not few:
        return ""
    named = ", ".join(f"{label} of {number} speaker{'s' * (number > 1)}" for label, number in few.items())
    return (
        f"Few speakers have some classes ({named}), which says little about other speakers: the intervals of UAR and "
        "macro-F1 are widened by as much as speakers differ in the other classes."
    )


def setting_of(results: Mapping[str, Any]) -> str:
    """Protocol and labels, which must be quoted with every figure: `speaker-independent 5-fold, labels: modified`."""
    words = protocol_words(results.get("protocol", {}))
    return f"{words}, labels: {results['label_source']}" if results.get("label_source") else words


def headline(results: Mapping[str, Any]) -> str:
    """`UAR 0.623 [0.581, 0.664], speaker-independent 5-fold, labels: modified`, the same on every page.

    Args:
        results: The content of `results.json`.
    """
    name, value, interval = metric_of(results)
    return f"{name} {format_interval(value, interval)}, {setting_of(results)}"


def baselines_of(results: Mapping[str, Any]) -> dict[str, dict]:
    """The baselines that a run was compared with, by kind: `functionals`, `encoder`.

    Args:
        results: The content of `results.json`. Before there were two kinds, its section `baseline` was the one.
    """
    section = results.get("baseline") or {}
    if "difference" in section or "uar" in section:
        return {"functionals": section}
    return {kind: section[kind] for kind in ("functionals", "encoder") if kind in section}


class Verdict(NamedTuple):
    """Whether the model is better than the baselines, and the sentences that say so."""

    beats: bool
    text: str


def verdict_of(results: Mapping[str, Any]) -> Verdict | None:
    """The comparison with the baselines; None where none was made.

    A model beats one when the whole interval of the difference lies above 0 and its p value is 0.05 or less. A head on
    a frozen encoder need not beat another head on the same encoder: that comparison is shown but does not decide.

    Args:
        results: The content of `results.json`.
    """
    found = {kind: _verdict_on(baseline) for kind, baseline in baselines_of(results).items()}
    if not found:
        return None
    is_frozen = results.get("config", {}).get("train_mode") == "probe"
    decisive = [verdict.beats for kind, verdict in found.items() if not (is_frozen and kind == "encoder")]
    return Verdict(all(decisive), " ".join(verdict.text for verdict in found.values()))


def _verdict_on(baseline: dict) -> Verdict:
    difference = baseline.get("difference", {})
    interval = difference.get("interval")
    p, is_above = difference.get("p"), interval is not None and interval[0] is not None and interval[0] > 0
    is_rare = p is not None and p <= 0.05
    beats = is_above and is_rare
    split = (
        " The interval and the test disagree: there are too few speakers to decide."
        if p is not None and is_above != is_rare
        else ""
    )
    return Verdict(
        beats,
        f"This model {'beats' if beats else 'does not beat'} the baseline ({baseline.get('name', 'unnamed')}, "
        f"UAR {format_interval(baseline.get('uar'), baseline.get('interval'))}): difference "
        f"{format_difference(difference.get('uar'), interval)}, {format_p(p)}.{split}",
    )


def whose_scores(results: Mapping[str, Any]) -> str:
    """Says that scores pool several models, and which model lies in the folder; empty for a single run.

    Args:
        results: The content of `results.json`.
    """
    count, final = len(results.get("per_run", [])), results.get("final_fit")
    if final:
        return (
            f"The model in this folder was trained on all {format_count(final.get('clips'))} clips, so that no clip is "
            f"left to test it on. The scores are those of {count} models trained in the same way, each tested on clips "
            "that it was not trained on."
        )
    return f"The scores pool those of {count} models, each in a folder of its own." if count > 1 else ""

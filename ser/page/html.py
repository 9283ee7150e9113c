"""The parts of the page as HTML: an answer, an error, and the limits of the model. Every text is escaped."""

from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np

from ser.evaluation import format as words
from ser.evaluation.calibration_words import what_scores_are
from ser.inference.output_formats import answer_columns, text_of
from ser.page import translations
from ser.page.answer import Answer, Limits

Results = Mapping[str, Any]
_TEMPLATES = Path(__file__).parent / "templates"


def answer_html(answer: Answer, threshold: float | None, regression: bool, synthetic: bool = False) -> str:
    """Scores as bars, the timeline over the waveform, a player and downloads.

    Args:
        threshold: The confidence, in [0, 1], under which the page says "not sure"; None for never.
        regression: Whether the scores are values of dimensions and not probabilities.
        synthetic: Whether the model learnt from synthetic speech, which the answer then says.
    """
    labels = [score["label"] for score in answer.scores]
    return _render(
        "page_answer.html",
        answer=answer,
        best=answer.scores[0],
        threshold=threshold or 0.0,
        regression=regression,
        synthetic=synthetic,
        colours=translations.colours_of(sorted(labels)),
        ticks=_ticks(answer.seconds),
        heard_labels={segment["label"] for segment in answer.segments if segment["scores"]},
        has_unsure=any(_is_unsure(segment, threshold or 0.0) for segment in answer.segments),
        outline=_outline_path(answer.outline),
        sound=f"gradio_api/file={quote(str(answer.sound))}",
        downloads=_downloads(answer, sorted(labels), regression),
    )


def error_html(name: str, problem: str) -> str:
    """One sentence on why a recording cannot be used."""
    return _render("page_error.html", name=name, problem=translations.why(problem))


def limits_html(results: Results, model: str, limits: Limits, max_waiting: int) -> str:
    """The model's data, its scores and its limits, from `results.json`, and what the page takes.

    Args:
        limits: What one recording may take.
        max_waiting: How many recordings may wait.
    """
    return _render(
        "page_limits.html",
        model=model,
        minutes=f"{limits.minutes:g}",
        seconds=f"{limits.seconds:g}",
        max_waiting=str(max_waiting),
        results=results,
        metric=words.metric_of(results) if results else None,
        setting=translations.setting(results) if results else None,
        synthetic=is_synthetic(results),
        scores_are=what_scores_are(results),
        threshold=threshold_of(results),
        on_test=(results.get("calibration", {}).get("precision_90") or {}).get("test") or {},
        recalls=_recalls(results),
        regression=results.get("task") == "regression",
    )


def header_html() -> str:
    """The title and the switch of languages."""
    return _render("page_header.html")


def examples_html(names: list[tuple[str, str]]) -> str:
    """A button for each example, named in both languages."""
    return _render("page_examples.html", names=names)


def is_synthetic(results: Results) -> bool:
    """Whether the model learnt from synthetic speech, so that its scores mean nothing for people."""
    return (results.get("corpus") or {}).get("name") == "synthetic"


def text_html(key: str) -> str:
    """One text of the page."""
    return f'<p class="ser-note">{translations.say(key)}</p>'


def threshold_of(results: Results) -> float | None:
    """The confidence above which dev shows 9 answers in 10 to be right; None where the run found none."""
    return (results.get("calibration", {}).get("precision_90") or {}).get("threshold")


def clock(seconds: float) -> str:
    """A time in a recording: `0:04.2`, `1:02:03.0`."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    whole = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{whole}:{tenths // 10:02d}.{tenths % 10}"


def _recalls(results: Results) -> list[tuple[str, float]]:
    """Classes with their recall, the best first."""
    per_class = results.get(words.part_of(dict(results)), {}).get("per_class", {})
    known = [(label, scores["recall"]) for label, scores in per_class.items() if scores.get("recall") is not None]
    return sorted(known, key=lambda pair: -pair[1])


def _is_unsure(segment: dict[str, Any], threshold: float) -> bool:
    return segment["score"] is not None and segment["score"] < threshold


def _ticks(seconds: float) -> list[float]:
    """Up to six round times along a recording, none at its very end."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    step = next((step for step in steps if seconds / step <= 6), 14_400)
    return np.arange(0, seconds * 0.94, step).tolist()


def _outline_path(outline: np.ndarray) -> str:
    """The waveform's outline as an SVG path in a box of `len(outline)` by 100, the same above and below."""
    upper = [f"{index} {50 - 46 * level:.1f}" for index, level in enumerate(outline)]
    lower = [f"{index} {50 + 46 * level:.1f}" for index, level in enumerate(outline)]
    return f"M{' L'.join(upper + lower[::-1])}Z"


def _downloads(answer: Answer, labels: list[str], regression: bool) -> list[dict[str, str]]:
    """The answer as files, embedded in the page, so the server keeps none."""
    timeline = bool(answer.segments)
    record = {"file": answer.name, **({"segments": answer.segments} if timeline else {"scores": answer.scores})}
    kinds = {"csv": "table", "srt": "subtitles"} if timeline else {"csv": "table"}
    columns = answer_columns(labels, timeline, regression)
    files = []
    for kind, title in kinds.items():
        data = b64encode("".join(text_of([record], kind, columns)).encode()).decode()
        address = f"data:text/{'csv' if kind == 'csv' else 'plain'};charset=utf-8;base64,{data}"
        files.append({"name": f"{Path(answer.name).stem}.{kind}", "title": title, "address": address})
    return files


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@lru_cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"say": translations.say, "both": translations.both, "facts": translations.corpus_facts}
    environment.filters |= {
        "emotion": translations.emotion,
        "source": translations.source,
        "percent": lambda share: translations.figure(words.format_percent(share)),
        "count": lambda count: translations.figure(words.format_count(count)),
        "number": lambda value: translations.figure(words.format_number(value)),
        "span": lambda seconds: translations.figure(words.format_seconds(seconds)),
        "clock": lambda seconds: translations.figure(clock(seconds)),
        "tick": lambda seconds: translations.figure(clock(seconds)[:-2]),
        "digits": translations.figure,
        "bracket": lambda interval: translations.figure(words.format_bracket(interval)),
    }
    return environment

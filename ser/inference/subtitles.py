"""Timelines as other programs read them: subtitles (SRT) and diarisation (RTTM)."""

import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from ser.inference.recordings import printable


def srt(segments: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Subtitles, one for each segment that is not silence: `anger 93 %`.

    `<`, `>` and `&` of a label are escaped: players take them for markup.

    Args:
        segments: What the pipeline returns for one recording with `timeline=True`.

    Yields:
        Lines, with their ends.
    """
    for number, segment in enumerate(_heard(segments), start=1):
        text = escape(caption(segment), quote=False)
        yield f"{number}\n{srt_time(segment['start'])} --> {srt_time(segment['end'])}\n{text}\n\n"


def srt_time(seconds: float) -> str:
    """A time as subtitles have it, `01:02:03,456`."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def caption(segment: dict[str, Any]) -> str:
    """The text of a segment: its label and score, or the values of a regression."""
    if segment["label"] is None:
        return ", ".join(f"{score['label']} {score['score']:.2f}" for score in segment["scores"])
    return f"{segment['label']} {100 * segment['score']:.0f} %"


def rttm(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Rich Transcription Time Marked lines (NIST RT-09): the label as the speaker, the score as confidence.

    RTTM separates its ten fields by spaces; spaces within a name or label become underscores.

    Args:
        answers: `{"file", "segments"}` each.

    Yields:
        Lines, with their ends. Silence has none.
    """
    for answer in answers:
        file = _field(answer["file"])
        for segment in _heard(answer["segments"]):
            times = f"{segment['start']:.3f} {segment['end'] - segment['start']:.3f}"
            label = "<NA>" if segment["label"] is None else _field(segment["label"])
            score = "<NA>" if segment["score"] is None else f"{segment['score']:.4f}"
            yield f"SPEAKER {file} 1 {times} <NA> <NA> {label} {score} <NA>\n"


def _heard(segments: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (segment for segment in segments if segment["scores"])


def _field(text: str) -> str:
    return re.sub(r"\s", "_", printable(text)) or "_"

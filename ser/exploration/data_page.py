"""`data.html`: one page about a corpus before any model, which opens offline.

What it shows is computed from the prepared corpus alone, and cached: signal, functionals, copies; frozen features are
taken from the cache where a run has left them.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib

from ser.data.audio import SAMPLING_RATE_HZ, clip_wave, encode_wav, undecoded
from ser.data.data_arguments import DataArguments
from ser.evaluation.format import format_count
from ser.evaluation.pages import drawn, page_environment
from ser.exploration.class_section import class_plots, class_rows, facts_of, missing_rows, small_classes
from ser.exploration.measured_corpus import MeasuredCorpus, measure_corpus
from ser.exploration.signal_section import (
    copy_findings,
    copy_section,
    signal_findings,
    signal_plots,
    signal_rows,
    worst_recorded_clips,
)
from ser.exploration.voice_section import plane_section, voice_note, voice_section
from ser.files import write_text
from ser.run_folder import DATA_PAGE

# Of a clip with a player; 12 clips at most have one, so that a page holds 3 MB of audio at most.
MAX_SECONDS_HEARD = 6.0
_TEMPLATES = Path(__file__).parent / "templates"
_TITLES = {
    "classes": "Classes",
    "voices": "Six functionals by emotion",
    "plane": "Emotions and speakers",
    "signal": "Recording quality",
    "worst": "Clips to listen to",
    "copies": "Duplicates",
    "missing": "What is missing",
    "cite": "Licence and citation",
}


def write_data_page(dataset: Any, folder: Path, args: DataArguments, encoder: str | None = None) -> Path:
    """Writes `data.html` about a prepared corpus into a folder, whole or not at all.

    Args:
        dataset: Prepared corpus.
        folder: Where the page goes.
        args: How the corpus was prepared; `data_page` is true where all clips of a large one are to be measured.
        encoder: The encoder whose frozen features are preferred, if several were run.

    Returns:
        The path of the page.
    """
    stored, num_proc = undecoded(dataset), args.num_proc or joblib.cpu_count()
    corpus = measure_corpus(dataset, args.cache_dir, num_proc, bool(args.data_page), encoder)
    path = folder / DATA_PAGE
    write_text(render_data_page(corpus, lambda row: clip_wave(stored[row])), path)
    return path


def render_data_page(corpus: MeasuredCorpus, wave_of: Any) -> str:
    """The page as text.

    Args:
        corpus: What was measured.
        wave_of: Gives the wave `(T,)` of a row of the corpus.
    """
    voices, voice_plots = voice_section(corpus)
    plane, copies = plane_section(corpus), copy_section(corpus)
    worst = [{**clip, "audio": _player(wave_of(clip["row"]))} for clip in worst_recorded_clips(corpus)]
    plots = {**class_plots(corpus), **voice_plots, **plane["plots"], **signal_plots(corpus)}
    missing = missing_rows(corpus)
    shown = {**dict.fromkeys(_TITLES, True), "worst": worst, "missing": missing, "plane": plane["plots"]}
    shown["cite"] = corpus.facts.get("licence") or corpus.facts.get("citation")
    return (
        page_environment(_TEMPLATES)
        .get_template("data.html")
        .render(
            facts=corpus.facts,
            figures=facts_of(corpus),
            findings=findings(corpus, plane),
            contents={id_: title for id_, title in _TITLES.items() if shown[id_]},
            notes=_notes(corpus, plane),
            classes=class_rows(corpus),
            plots={name: drawn(name, plot) for name, plot in plots.items()},
            voices=voices,
            plane=plane,
            signal=signal_rows(corpus),
            worst=worst,
            copies=copies,
            missing=missing,
        )
    )


def findings(corpus: MeasuredCorpus, plane: Mapping[str, Any]) -> list[str]:
    """What one should look at first, in sentences."""
    speakers = [plane["sentence"]] if plane["shares"] else []
    return [*copy_findings(corpus), *small_classes(corpus), *signal_findings(corpus), *speakers]


def _notes(corpus: MeasuredCorpus, plane: Mapping[str, Any]) -> dict[str, str]:
    """The note beside each section, by the section's id."""
    few = f" Measured on {format_count(len(corpus.signal))} clips, evenly spaced." * (
        len(corpus.signal) < len(corpus.clips)
    )
    kind = "frozen features" if plane["is_frozen"] else "functionals"
    return {
        "classes": "All clips of the corpus, before any split.",
        "voices": voice_note(corpus),
        "plane": f"Each mark is a clip, and both pictures have the same marks: {plane['source']}. Look for islands of "
        f"one colour. The shares are of the variance of the {kind}, corrected for chance: 0 % for groups at random.",
        "signal": f"Estimates from the clip alone, at 16 kHz.{few} Clipping before resampling or a codec is not seen.",
        "worst": f"The first {MAX_SECONDS_HEARD:g} s of each. This page holds their audio: check the licence of the "
        "corpus before you share the page.",
        "copies": "What ser audit looks for: the same samples, and the same sound at another level, rate or codec. A "
        "split keeps them in one part.",
        "missing": "What the corpus does not tell.",
    }


def _player(wave: Any) -> str:
    """The beginning of a clip as a data URI."""
    data = encode_wav(wave[: int(MAX_SECONDS_HEARD * SAMPLING_RATE_HZ)])
    return f"data:audio/wav;base64,{base64.b64encode(data).decode()}"

"""`report.html`: one page about a run that opens offline, made from the run's folder without its model.

Every figure comes from `results.json` and is formatted by `ser.evaluation.format`, as in the model card.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from ser.evaluation import format as words
from ser.evaluation import tables
from ser.evaluation.audit_words import audit_sentences
from ser.evaluation.bibliography import bibtex_of
from ser.evaluation.calibration_words import sentence_on_scores, sentence_on_threshold
from ser.evaluation.diagnosis import diagnose
from ser.evaluation.figures import Run, read_run, robustness_rows, run_plots, score_scale
from ser.evaluation.method import method_sentences, no_baseline_words, variance_words
from ser.evaluation.pages import drawn, page_environment
from ser.evaluation.published import published_figures
from ser.files import write_text
from ser.names import tidy
from ser.run_folder import DATA_PAGE, REPORT

MAX_CLIPS = 20
# 40 s of 16 kHz PCM_16; base64 adds a third.
MAX_CLIP_BYTES = 1_300_000
MAX_AUDIO_BYTES = 8_000_000
_PLAYABLE = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_TITLES = {
    "classes": "Classes",
    "dimensions": "Dimensions",
    "corpora": "Each corpus",
    "baseline": "Against the baseline",
    "published": "Published under the same protocol",
    "layers": "Layers of the encoder",
    "calibration": "Calibration",
    "speakers": "Speakers",
    "gender": "Gender",
    "snr": "Recording quality",
    "robustness": "Robustness",
    "runs": "Folds and seeds",
    "training": "Training",
    "corpus": "Corpus",
    "split": "Split and audit",
    "clips": "Surest mistakes",
    "configuration": "Configuration",
    "cite": "How to cite",
}


def write_report(run_dir: Path, audio: Callable[[str], bytes] | None = None) -> Path:
    """Writes `report.html` into a run's folder, whole or not at all.

    Args:
        run_dir: Folder with `results.json` and `predictions.parquet`; `training_log.json` and `splits.json` are read
            where they exist.
        audio: Gives the bytes of a WAV, FLAC, OGG or MP3 file for the id of a clip, or raises `KeyError` or
            `FileNotFoundError`; the most confident mistakes then have a player. Without it
            the page holds no audio.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: `results.json` or `predictions.parquet` is missing.
        ValueError: One of the files is damaged; the message names file and key.
    """
    run_dir = Path(run_dir)
    page = render_report(read_run(run_dir), audio, (run_dir / DATA_PAGE).is_file())
    path = run_dir / REPORT
    write_text(page, path)
    return path


def recordings_in(folder: Path) -> Callable[[str], bytes]:
    """The argument `audio` of `write_report`, from a folder of recordings whose file names are the ids of the clips.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--audio: {folder} is not a folder; expected the folder of the corpus' recordings")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PLAYABLE)
    # A file name that occurs in two folders is ambiguous; the path within the folder is not.
    alone = Counter(tidy(path.stem) for path in paths)
    by_name = {tidy(path.stem): path for path in paths if alone[tidy(path.stem)] == 1}
    by_name |= {tidy(path.relative_to(folder).with_suffix("").as_posix()): path for path in paths}
    return lambda clip: by_name[clip].read_bytes()


def render_report(run: Run, audio: Callable[[str], bytes] | None = None, has_data_page: bool = False) -> str:
    """The page of a run as text; `audio` as in `write_report`; `data.html` is linked to if it is there."""
    results = run.results
    plots = {name: drawn(name, plot) for name, plot in run_plots(run).items()}
    scale = score_scale(results)
    name, value, interval = words.metric_of(results)
    sections = {
        "clips": _clips(results.get("worst_clips", []), audio),
        "config": tables.pairs(results.get("config", {})),
        "baselines": tables.baselines(results),
        "corpora": tables.corpora(results),
        "published": published_figures(results),
        "snr": tables.snr(results),
        "corpus": tables.corpus(results),
        "model": tables.pairs({**results.get("model", {}), **tables.seconds(results)}, tables.in_words),
        "robustness": robustness_rows(results),
        "runs": tables.runs(results, run.fold_reports),
        "split": tables.split(results),
        "audit": audit_sentences(results.get("audit", {})),
    }
    contents = _contents(results, plots, sections)
    return (
        _environment()
        .get_template("report.html")
        .render(
            results=results,
            titles=words.TITLES,
            part=words.part_of(results),
            scored=results.get(words.part_of(results), {}),
            headline=words.headline(results),
            metric={"name": name, "value": value, "interval": interval},
            threshold=sentence_on_threshold(results),
            setting=words.setting_of(results),
            verdict=words.verdict_of(results),
            no_baseline=no_baseline_words(results),
            method=method_sentences(results),
            bibtex=bibtex_of(results),
            whose=words.whose_scores(results),
            diagnosis=diagnose(results, run.log),
            subtitle=_subtitle(results),
            faults=tables.faults(results),
            facts=tables.facts(results),
            plots={**plots, **({"scale": drawn("scale", scale)} if scale else {})},
            clips_per_class=run.split.get("clips_per_class"),
            contents=contents,
            data_page=DATA_PAGE if has_data_page else None,
            notes=_notes(results, sections),
            **sections,
        )
    )


def _environment() -> jinja2.Environment:
    """The templates, which escape everything and take an absent section as empty."""
    environment = page_environment(undefined=jinja2.ChainableUndefined)
    filters: dict[str, Callable[..., str]] = {
        "number": words.format_number,
        "signed": words.format_signed,
        "bracket": words.format_bracket,
        "signed_bracket": lambda interval: words.format_bracket(interval, signed=True),
        "percent": words.format_percent,
        "count": words.format_count,
        "p": words.format_p,
    }
    environment.filters |= {name: _of_what_is_there(write) for name, write in filters.items()}
    environment.filters["position"] = lambda share: f"{100 * min(max(share, 0), 1):.1f}%"
    return environment


def _of_what_is_there(write: Callable[..., str]) -> Callable[[Any], str]:
    """The same function, for which a value that `results.json` lacks is None."""
    return lambda value: write(None if isinstance(value, jinja2.Undefined) else value)


def _contents(results: Mapping[str, Any], plots: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, str]:
    """Titles of the sections that are not empty, by id, in the order of the page."""
    scored = results.get(words.part_of(results), {})
    shown = {
        "classes": "per_class" in scored,
        "dimensions": "per_dimension" in scored,
        "corpora": sections["corpora"],
        "baseline": sections["baselines"],
        "published": sections["published"],
        "layers": "layers" in plots,
        "calibration": "reliability" in plots,
        "speakers": "speakers" in plots,
        "gender": results.get("gender"),
        "snr": sections["snr"],
        "robustness": sections["robustness"],
        "runs": sections["runs"],
        "training": "training_curves" in plots,
        "corpus": sections["corpus"] or "duration_distribution" in plots,
        "split": sections["split"] or sections["audit"],
        "clips": sections["clips"],
        "configuration": sections["model"] or sections["config"],
        "cite": True,
    }
    return {id_: title for id_, title in _TITLES.items() if shown[id_]}


def _notes(results: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, str]:
    """The note beside each section, by the section's id."""
    scored = results.get(words.part_of(results), {})
    how = f"Intervals are 95\N{NO-BREAK SPACE}%: {scored['interval_method']}." if scored.get("interval_method") else ""
    audio = any(clip["audio"] for clip in sections["clips"])
    return {
        "classes": f"UAR is the mean recall of the classes, so that a rare one counts as much as a frequent one. {how} "
        + words.few_speakers_of(scored),
        "dimensions": f"CCC is 1 where every prediction equals its annotation, and 0 for a constant guess. {how}",
        "corpora": "UAR is over the classes that a corpus has; compare only corpora that have the same classes.",
        "baseline": "All were scored on the same clips. The difference is the model minus the baseline; the unit of "
        "its interval and p value is the speaker. Fine-tuning must beat the frozen encoder.",
        "published": "Figures of others, made with other code; the last column says why none is simply comparable.",
        "layers": "How much each layer of the encoder tells about emotion, measured inside train.",
        "calibration": f"Whether answers with a score of 70 % are right 7 times in 10. {sentence_on_scores(results)}",
        "speakers": "UAR over the classes that a speaker has. Few clips make wide intervals, and the worst of many "
        "speakers look worse than they are.",
        "gender": "The gap is between different speakers; an interval that contains 0 shows no gap."
        + (" Where a gender has one speaker, there is no interval." if _gap_is_open(results) else ""),
        "snr": "The test clips in three equal groups, by signal-to-noise ratio: what the clip is against its quietest "
        "tenth. Emotions differ in loudness and so in this ratio; groups have different shares of the classes.",
        "robustness": "UAR on changed copies of the test clips. Intervals are over speakers.",
        "runs": f"Each fold and seed alone. {results.get('which_to_print', '')} {variance_words(results)}".strip(),
        "training": "Loss on the training clips, and loss and score on dev.",
        "corpus": "The clips of the corpus, and their lengths.",
        "split": "The hash is over the ids and parts of all clips: runs with the same hash tested the same clips.",
        "clips": "The mistakes on test with the highest confidence. Some labels may be wrong."
        + (" This page holds their audio: check the licence of the corpus before you share the page." if audio else ""),
        "configuration": "The settings with which to repeat this run.",
        "cite": "Quote a figure together with its protocol.",
    }


def _gap_is_open(results: Mapping[str, Any]) -> bool:
    gap = results.get("gender", {}).get("gap")
    return bool(gap) and not gap["intervals"].get("uar")


def _subtitle(results: Mapping[str, Any]) -> str:
    """Corpus, task and backbone in one line."""
    corpus, labels = results.get("corpus", {}), results.get("labels", [])
    kind = "dimensions" if results["task"] == "regression" else "classes"
    parts = [corpus.get("name"), f"{len(labels)} {kind}", results.get("model", {}).get("backbone")]
    return " \N{MIDDLE DOT} ".join(str(part) for part in parts if part)


def _clips(clips: Iterable[Mapping[str, Any]], audio: Callable[[str], bytes] | None) -> list[dict[str, Any]]:
    """The most confident mistakes, with a player up to the limits of size."""
    left, shown = MAX_AUDIO_BYTES, []
    for clip in list(clips)[:MAX_CLIPS]:
        data = _bytes_of(clip["id"], audio)
        if data is not None and len(data) > min(MAX_CLIP_BYTES, left):
            data = None
        left -= len(data or b"")
        shown.append({**clip, "audio": _data_uri(data) if data else None})
    return shown


def _bytes_of(clip: str, audio: Callable[[str], bytes] | None) -> bytes | None:
    try:
        return audio(clip) if audio else None
    except (KeyError, FileNotFoundError):
        return None


def _data_uri(data: bytes) -> str:
    kinds = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg"}
    return f"data:audio/{kinds.get(data[:4], 'mpeg')};base64,{base64.b64encode(data).decode()}"

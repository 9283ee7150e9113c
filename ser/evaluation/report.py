"""`report.html`: a run on one page that opens offline, made from the run's folder without its model.

Every figure is taken from `results.json` and written by `ser.evaluation.format`, as the model card is.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ser.evaluation import format as words
from ser.evaluation import tables, theme
from ser.evaluation.audit_words import audit_sentences
from ser.evaluation.calibration_words import sentence_on_scores, sentence_on_threshold
from ser.evaluation.diagnosis import diagnose
from ser.evaluation.figures import Plot, Run, read_run, robustness_rows, run_plots, score_scale
from ser.files import write_text
from ser.run_folder import REPORT

MAX_CLIPS = 20
# 40 s of 16 kHz PCM_16; base64 adds a third.
MAX_CLIP_BYTES = 1_300_000
MAX_AUDIO_BYTES = 8_000_000
_PLAYABLE = (".wav", ".flac", ".ogg", ".opus", ".mp3")
_TEMPLATES = Path(__file__).parent / "templates"
_TITLES = {
    "classes": "Classes",
    "dimensions": "Dimensions",
    "corpora": "Each corpus",
    "baseline": "Against the baseline",
    "layers": "Layers of the encoder",
    "calibration": "Calibration",
    "speakers": "Speakers",
    "gender": "Gender",
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
            where they are.
        audio: Gives the bytes of a WAV, FLAC, OGG or MP3 file for the id of a clip, or raises `KeyError` or
            `FileNotFoundError`; the clips that the model is surely wrong about then have a player. Without it the
            page holds no audio.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: `results.json` or `predictions.parquet` is missing.
        ValueError: One of the files cannot be read as what its name says.
    """
    run_dir = Path(run_dir)
    page = render_report(read_run(run_dir), audio)
    path = run_dir / REPORT
    write_text(page, path)
    return path


def recordings_in(folder: Path) -> Callable[[str], bytes]:
    """The `audio` of `write_report` for a folder of recordings, which are named as the clips are, searched whole.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--audio: {folder} is not a folder; expected that of the corpus' recordings")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PLAYABLE)
    # A file name that two folders hold says nothing; the path within the folder does.
    alone = Counter(path.stem for path in paths)
    by_name = {path.stem: path for path in paths if alone[path.stem] == 1}
    by_name |= {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}
    return lambda clip: by_name[clip].read_bytes()


def render_report(run: Run, audio: Callable[[str], bytes] | None = None) -> str:
    """The page of a run as text; arguments as those of `write_report`."""
    results = run.results
    plots = {name: _drawn(name, plot) for name, plot in run_plots(run).items()}
    scale = score_scale(results)
    name, value, interval = words.metric_of(results)
    sections = {
        "clips": _clips(results.get("worst_clips", []), audio),
        "config": tables.pairs(results.get("config", {})),
        "baselines": tables.baselines(results),
        "corpora": tables.corpora(results),
        "corpus": tables.corpus(results),
        "model": tables.pairs({**results.get("model", {}), **tables.seconds(results)}, tables.in_words),
        "robustness": robustness_rows(results),
        "runs": tables.runs(results),
        "split": tables.split(results),
        "audit": audit_sentences(results.get("audit", {})),
    }
    contents = _contents(results, plots, sections)
    return (
        _environment()
        .get_template("report.html")
        .render(
            results=results,
            part=words.part_of(results),
            scored=results.get(words.part_of(results), {}),
            headline=words.headline(results),
            metric={"name": name, "value": value, "interval": interval},
            threshold=sentence_on_threshold(results),
            setting=words.setting_of(results),
            verdict=words.verdict_of(results),
            whose=words.whose_scores(results),
            diagnosis=diagnose(results, run.log),
            subtitle=_subtitle(results),
            faults=tables.faults(results),
            facts=tables.facts(results),
            plots={**plots, **({"scale": _drawn("scale", scale)} if scale else {})},
            clips_per_class=run.split.get("clips_per_class"),
            contents=contents,
            notes=_notes(results, sections),
            **sections,
        )
    )


def _environment() -> jinja2.Environment:
    """The templates, with everything escaped and a section that is not there taken as empty."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {
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


def _of_what_is_there(write: Callable[[Any], str]) -> Callable[[Any], str]:
    """A filter to which a value that `results.json` lacks is None."""
    return lambda value: write(None if isinstance(value, jinja2.Undefined) else value)


def _drawn(name: str, plot: Plot) -> dict[str, str]:
    """A plot as the template takes it. Its SVG is our own, and its texts were escaped when it was made."""
    return {"svg": Markup(theme.to_svg(plot.figure, name, plot.title)), "caption": plot.caption, "title": plot.title}


def _contents(results: Mapping[str, Any], plots: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, str]:
    """Titles of the sections that have something to show, by id, in the order of the page."""
    scored, corpus = results.get(words.part_of(results), {}), results.get("corpus", {})
    shown = {
        "classes": "per_class" in scored,
        "dimensions": "per_dimension" in scored,
        "corpora": sections["corpora"],
        "baseline": sections["baselines"],
        "layers": "layers" in plots,
        "calibration": "reliability" in plots,
        "speakers": "speakers" in plots,
        "gender": results.get("gender"),
        "robustness": sections["robustness"],
        "runs": sections["runs"],
        "training": "training_curves" in plots,
        "corpus": sections["corpus"] or "duration_distribution" in plots,
        "split": sections["split"] or sections["audit"],
        "clips": sections["clips"],
        "configuration": sections["model"] or sections["config"],
        "cite": corpus.get("citation") or corpus.get("licence"),
    }
    return {id_: title for id_, title in _TITLES.items() if shown[id_]}


def _notes(results: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, str]:
    """What a reader must know to read a section, by the section's id."""
    scored = results.get(words.part_of(results), {})
    how = f"Intervals are 95\N{NO-BREAK SPACE}%: {scored['interval_method']}." if scored.get("interval_method") else ""
    audio = any(clip["audio"] for clip in sections["clips"])
    return {
        "classes": f"UAR is the mean recall of the classes, so that a rare one counts as much as a frequent one. {how} "
        + words.few_speakers_of(scored),
        "dimensions": f"CCC is 1 where every prediction equals its annotation, and 0 for a constant guess. {how}",
        "corpora": "UAR is over the classes that a corpus has; two compare only where neither lacks one.",
        "baseline": "All were scored on the same clips. The difference is the model less the baseline; its interval "
        "and p value take all clips of a speaker as one. The frozen encoder is the floor of any fine-tuning.",
        "layers": "Where in the encoder emotion is heard, found inside train.",
        "calibration": f"Whether a model that says 70 % is right 7 times in 10. {sentence_on_scores(results)}",
        "speakers": "UAR over the classes that a speaker has. Few clips make wide intervals, and the worst of many "
        "look worse than they are.",
        "gender": "The gap is taken between different speakers; an interval that holds 0 shows none."
        + (" Where one voice stands for a gender, no interval can be given." if _gap_is_open(results) else ""),
        "robustness": "The same test clips, changed, and what that does to UAR. Intervals are over speakers.",
        "runs": f"Each fold and seed by itself. {results.get('which_to_print', '')}",
        "training": "Loss on the training clips, and loss and score on dev.",
        "corpus": "What was there to learn from.",
        "split": "The hash is over the ids and the part that each is in: two runs of one hash tested the same clips.",
        "clips": "Test clips whose wrong class the model is surest of. Some may be wrong labels."
        + (" This page holds their audio: mind the licence of the corpus before passing it on." if audio else ""),
        "configuration": "What it takes to run this again.",
        "cite": "A figure without its protocol says nothing.",
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
    """The clips that the model is surely wrong about, with a player while there is room."""
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

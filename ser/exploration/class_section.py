"""What is in a corpus and what is missing: classes by gender, speaker and length."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from ser.data.audit import MIN_CLIPS, MIN_SPEAKERS
from ser.data.clips import counted, listed
from ser.evaluation import plots, theme
from ser.evaluation.figures import Plot
from ser.evaluation.format import format_count, format_seconds
from ser.exploration import figures
from ser.exploration.measured_corpus import MeasuredCorpus, medians

UNKNOWN = "not known"


def write_class_plots(dataset: Any, folder: Path) -> list[Path]:
    """Writes `class_distribution.png` (where there are classes) and `duration_histogram.png` about a prepared corpus.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"duration_histogram.png": plots.duration_distribution(dataset["duration"])}
    if "emotion" in dataset.features:
        names = dataset.features["emotion"].names
        counts = Counter(names[label] for label in dataset["emotion"])
        drawn["class_distribution.png"] = plots.class_distribution({name: counts[name] for name in names})
    return [theme.write_png(figure, folder / name) for name, figure in sorted(drawn.items())]


def class_rows(corpus: MeasuredCorpus) -> list[dict[str, Any]]:
    """Rows of the table of classes: `name`, `clips`, `hours`, `mean_seconds`, `speakers`, `female`, `male`."""
    rows = []
    for name in corpus.classes:
        own = corpus.clips[corpus.clips["emotion"] == name]
        genders = Counter(own["gender"].dropna())
        rows.append(
            {
                "name": name,
                "clips": len(own),
                "hours": own["seconds"].sum() / 3600,
                "mean_seconds": own["seconds"].mean() if len(own) else None,
                "speakers": own["speaker"].nunique() if corpus.clips["speaker"].notna().any() else None,
                "female": genders["female"] if corpus.clips["gender"].notna().any() else None,
                "male": genders["male"] if corpus.clips["gender"].notna().any() else None,
            }
        )
    return rows


def class_plots(corpus: MeasuredCorpus) -> dict[str, Plot]:
    """Clips by class and gender, clips by class and speaker, and lengths by class."""
    clips, found = corpus.clips, {}
    genders = clips["gender"].fillna(UNKNOWN)
    counts = {name: dict(Counter(genders[clips["emotion"] == name])) for name in corpus.classes}
    found["genders"] = Plot(
        figures.bars_by_gender(counts),
        "Clips of each class, by gender: "
        + "; ".join(
            f"{name} " + ", ".join(f"{number} {gender}" for gender, number in sorted(own.items()))
            for name, own in counts.items()
        ),
        "Clips of each class, by the gender of the speaker."
        if clips["gender"].notna().any()
        else "Clips of each class. Genders are not known.",
    )
    speakers = clips["speaker"].dropna().value_counts()
    if len(speakers):
        shown = speakers.index[: figures.MAX_COLUMNS].tolist()
        table = pd.crosstab(clips["emotion"], clips["speaker"]).reindex(
            index=corpus.classes, columns=shown, fill_value=0
        )
        empty = int((table == 0).to_numpy().sum())
        few = f" The {len(shown)} speakers with the most clips are shown." if len(shown) < len(speakers) else ""
        found["speakers"] = Plot(
            figures.speakers_by_class(table.to_numpy(), corpus.classes, shown),
            f"Clips of each speaker in each class: from {speakers.min()} to {speakers.max()} clips a speaker; "
            f"{empty} of {table.size} cells are empty",
            f"Columns are speakers; the darkest cell holds {table.to_numpy().max()} clips. In an empty cell, the "
            f"speaker does not have the class.{few}",
        )
    lengths = {name: clips["seconds"][clips["emotion"] == name].to_numpy() for name in corpus.classes}
    found["lengths"] = Plot(
        figures.violins(lengths, "length in seconds", True),
        "Length of the clips of each class, in seconds: " + medians(lengths),
        "Lengths of clips; lines are medians. Where a class is longer, a model may learn its length.",
    )
    return found


def missing_rows(corpus: MeasuredCorpus) -> list[tuple[str, str]]:
    """What the corpus does not tell, and what that prevents; empty where it tells all."""
    total, rows = len(corpus.clips), []
    effects = {
        "speaker": "It cannot be checked whether train and test share speakers, and no test over speakers is made.",
        "gender": "Scores cannot be broken down by gender.",
    }
    for column, effect in effects.items():
        lacking = int(corpus.clips[column].isna().sum())
        if lacking:
            rows.append((f"{column}s", f"{_of(lacking, total)} name none. {effect}"))
    if not corpus.has_classes:
        rows.append(("classes", "There are none: nothing is shown by emotion."))
    absent = [name for name in corpus.classes if name not in set(corpus.clips["emotion"])]
    if absent:
        rows.append(("clips of a class", f"No clip has the class {listed(absent)}."))
    if corpus.transcripts < total:
        rows.append(("transcripts", f"{_of(total - corpus.transcripts, total)} have none. Training does not use them."))
    if not corpus.features.is_frozen:
        rows.append(
            (
                "frozen features",
                "The cache holds none of this corpus; functionals are shown. A run with a pretrained encoder caches "
                "them: make this page again after it.",
            )
        )
    return rows


def facts_of(corpus: MeasuredCorpus) -> list[tuple[str, str]]:
    """The few figures under the heading."""
    clips = corpus.clips
    speakers = clips.dropna(subset=["speaker"]).drop_duplicates("speaker")
    genders = Counter(speakers["gender"].dropna())
    known = ", ".join(f"{genders[name]} {name}" for name in ("female", "male") if genders[name])
    return [
        ("clips", format_count(len(clips))),
        ("length in all", format_seconds(clips["seconds"].sum())),
        ("speakers", f"{len(speakers)}{f' ({known})' if known else ''}" if len(speakers) else UNKNOWN),
        ("classes", str(len(corpus.classes)) if corpus.has_classes else "none"),
        ("median length", f"{clips['seconds'].median():.1f} s"),
    ]


def small_classes(corpus: MeasuredCorpus) -> list[str]:
    """Sentences on classes with too few clips or speakers to be scored alone."""
    rows = class_rows(corpus) if corpus.has_classes else []
    few = [f"{row['name']} ({counted(row['clips'], 'clip')})" for row in rows if row["clips"] < MIN_CLIPS]
    by_few = [
        f"{row['name']} ({counted(row['speakers'], 'speaker')})"
        for row in rows
        if row["speakers"] is not None and row["speakers"] < MIN_SPEAKERS
    ]
    found = [f"Classes with fewer than {MIN_CLIPS} clips: {', '.join(few)}."] if few else []
    return found + ([f"Classes with fewer than {MIN_SPEAKERS} speakers: {', '.join(by_few)}."] if by_few else [])


def _of(some: int, total: int) -> str:
    return (
        f"All {format_count(total)} clips" if some == total else f"{format_count(some)} of {format_count(total)} clips"
    )

"""How speech differs with emotion and speaker: six functionals with tests, and the clips in a plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ser.data.clips import counted
from ser.evaluation.figures import Plot
from ser.evaluation.format import MISSING, format_count, format_number, format_p, format_percent
from ser.exploration import figures
from ser.exploration.measured_corpus import MeasuredCorpus, evenly, medians, names_or_none
from ser.exploration.projection import plane_of, shares_of
from ser.exploration.speaker_tests import (
    FEWEST_SPEAKERS,
    FRIEDMAN,
    KRUSKAL,
    WILCOXON,
    SpeakerTest,
    compare_over_speakers,
    corrected,
    speaker_means,
)
from ser.exploration.voices import VOICES

_EFFECTS = {FRIEDMAN: "Kendall's W", WILCOXON: "rank-biserial r", KRUSKAL: "epsilon²", None: ""}


def voice_section(corpus: MeasuredCorpus) -> tuple[list[dict[str, Any]], dict[str, Plot]]:
    """The table of tests, one row for each functional, and the violins, by the keys of `VOICES`."""
    tests = {key: over_speakers(corpus, corpus.voices, key) for key in VOICES}
    p_values = dict(zip(VOICES, corrected([test.p for test in tests.values()]), strict=True))
    rows, drawn = [], {}
    for key, voice in VOICES.items():
        test = tests[key]
        rows.append(
            {
                "name": voice.name,
                "meaning": voice.meaning,
                "share": format_percent(test.share),
                "effect": f"{_EFFECTS[test.name]} {format_number(test.effect, 2)}".strip(),
                "p": format_p(p_values[key]).removeprefix("p ").removeprefix("= "),
                "test": f"{test.name}, {counted(test.speakers, 'speaker')}" if test.name else MISSING,
            }
        )
        groups = corpus.by_class(corpus.voices, key)
        label = f"{voice.name}, {voice.unit}"
        found = (
            f"{_EFFECTS[test.name]} {format_number(test.effect, 2)}, {format_p(p_values[key])}; " if test.name else ""
        )
        drawn[key] = Plot(
            figures.violins(groups, label, voice.is_logarithmic, speaker_dots(corpus, corpus.voices, key)),
            f"{voice.name} by emotion, in {voice.unit}: {medians(groups)}",
            f"{voice.name[0].upper()}{voice.name[1:]}: {found}{format_percent(test.share)} of the variance of clips "
            "lies between emotions.",
        )
    return rows, drawn


def voice_note(corpus: MeasuredCorpus) -> str:
    """How the six functionals were tested."""
    sample = f" Measured on {format_count(len(corpus.voices))} clips, evenly spaced." * (
        len(corpus.voices) < len(corpus.clips)
    )
    if not corpus.has_classes or corpus.clips["emotion"].nunique() < 2:
        return f"There are no two classes to compare.{sample}"
    if corpus.clips["speaker"].dropna().nunique() < FEWEST_SPEAKERS:
        return (
            f"No test is made: it needs {FEWEST_SPEAKERS} known speakers, since the clips of one speaker are not "
            f"independent of each other.{sample}"
        )
    return (
        "Dots are means of speakers. Tests compare these means, not clips; p is corrected for six tests (Holm). With "
        "Kendall's W = 1, all speakers rank the emotions alike; with 0, each in another order. The share of "
        f"variance is corrected for chance (epsilon²).{sample}"
    )


def over_speakers(corpus: MeasuredCorpus, table: pd.DataFrame, key: str) -> SpeakerTest:
    """The test of one column of `signal` or `voices` by emotion."""
    values, speakers = table[key].to_numpy(float), names_or_none(table["speaker"])
    return compare_over_speakers(values, speakers, corpus.class_codes(table), len(corpus.classes))


def speaker_dots(corpus: MeasuredCorpus, table: pd.DataFrame, key: str) -> dict[str, np.ndarray]:
    """The means of the speakers in each class."""
    values, speakers = table[key].to_numpy(float), names_or_none(table["speaker"])
    means = speaker_means(values, speakers, corpus.class_codes(table), len(corpus.classes))
    return {name: column[np.isfinite(column)] for name, column in zip(corpus.classes, means.T, strict=True)}


def plane_section(corpus: MeasuredCorpus) -> dict[str, Any]:
    """`plots` (emotion and, where they are known, speaker), `shares` (rows of name and percentage), `sentence`."""
    plane = plane_of(corpus.features.values)
    groups = {"emotion": names_or_none(corpus.voices["emotion"]), "speaker": names_or_none(corpus.voices["speaker"])}
    groups |= {name: names_or_none(corpus.voices[name]) for name in ("gender", "corpus")}
    shares = shares_of(corpus.features.values, groups) if len(corpus.voices) > 2 else {}
    found: dict[str, Any] = {
        "source": corpus.features.source,
        "is_frozen": corpus.features.is_frozen,
        "shares": [(name, format_percent(share, 1)) for name, share in shares.items()],
        "sentence": _sentence_on(shares),
        "plots": {},
    }
    if plane is None:
        return found
    shown = evenly(len(plane.points), figures.MAX_POINTS)
    axis = "component" if plane.shares else "UMAP"
    how = f"{plane.method} of {corpus.features.source}"
    how += f" ({format_percent(sum(plane.shares))} of the variance)" if plane.shares else ""
    for kind in ("emotion", "speaker"):
        own = [groups[kind][row] for row in shown]
        if len(set(own) - {None}) < 2:
            continue
        named, others = figures.named_groups(own)
        grey = f" The {len(named)} with the most clips have a colour." if others.any() else ""
        share = f"; {kind}s explain {format_percent(shares[kind], 1)} of the variance" if kind in shares else ""
        found["plots"][f"plane_{kind}"] = Plot(
            figures.points(plane.points[shown], own, axis),
            f"{how}, coloured by {kind}: {format_count(len(shown))} clips, {len(set(own) - {None})} {kind}s{share}",
            f"Coloured by {kind}. {how}.{grey}",
        )
    return found


def _sentence_on(shares: Mapping[str, float]) -> str:
    """What the two pictures show."""
    if "speaker" not in shares:
        return (
            "Whether clips of one speaker lie together cannot be told: it needs two known speakers with several clips."
        )
    if "emotion" not in shares:
        return f"Speakers explain {format_percent(shares['speaker'], 1)} of the variance of these features."
    numbers = (
        f"Speakers explain {format_percent(shares['speaker'], 1)} of the variance of these features, emotions "
        f"{format_percent(shares['emotion'], 1)}."
    )
    if shares["speaker"] > shares["emotion"]:
        return (
            f"{numbers} They tell more about who speaks than about how: where a speaker is in both train and test, a "
            "model is tested on voices that it knows. Keep speakers apart."
        )
    return f"{numbers} A split that shares speakers between train and test gives the share of the speakers away."

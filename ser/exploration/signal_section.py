"""How well the clips of a corpus are recorded: signal measures, the worst clips to listen to, and duplicates."""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ser.data.clips import counted, listed
from ser.data.copies import Copies
from ser.evaluation.figures import Plot
from ser.evaluation.format import format_count, format_number, format_p, format_percent
from ser.exploration import figures
from ser.exploration.measured_corpus import MeasuredCorpus, medians
from ser.exploration.voice_section import over_speakers, speaker_dots

NOISY_BELOW_DB, TELEPHONE_BELOW_HZ, CLIPPED_FROM, SILENT_FROM = 10.0, 4000.0, 0.001, 0.5
MAX_WORST, MAX_COPIES = 3, 20


class Measure(NamedTuple):
    """A measure of the signal, as the page shows it.

    Attributes:
        name: In tables and sentences.
        meaning: How it is measured.
        unit: Of its values; "%" for a share.
        worst_is_low: Whether low values are bad.
        listed_from: A clip may be listed as bad at this value or a worse one.
        bounds: Ends of the axis of its histogram, in its unit.
    """

    name: str
    meaning: str
    unit: str
    worst_is_low: bool
    listed_from: float
    bounds: tuple[float, float]

    def words(self, value: float) -> str:
        """A value with its unit."""
        if self.unit == "%":
            return format_percent(value, 2 if self.name == "clipping" else 0)
        return f"{format_count(round(value)) if self.unit == 'Hz' else format_number(value, 1)} {self.unit}"


SIGNAL = {
    "snr_db": Measure(
        "signal-to-noise ratio", "the clip against its quietest tenth", "dB", True, float("inf"), (0.0, 60.0)
    ),
    "clipped_share": Measure(
        "clipping", "samples in flat tops at the highest or lowest value", "%", False, 1e-9, (0.0, 5.0)
    ),
    "bandwidth_hz": Measure(
        "bandwidth", "highest frequency within 60 dB of the strongest", "Hz", True, 7000.0, (0.0, 8000.0)
    ),
    "silent_share": Measure(
        "silence", "frames more than 40 dB below the loudest", "%", False, SILENT_FROM, (0.0, 100.0)
    ),
}


def is_bad(key: str, values: Any) -> Any:
    """Which values of a measure are bad enough to list their clips."""
    measure = SIGNAL[key]
    return values <= measure.listed_from if measure.worst_is_low else values >= measure.listed_from


def signal_rows(corpus: MeasuredCorpus) -> list[dict[str, str]]:
    """Rows of the table: `name`, `meaning`, `median`, `low` and `high` (5th and 95th percentile), and `worst`."""
    rows = []
    for key, measure in SIGNAL.items():
        values = corpus.signal[key].to_numpy()
        low, middle, high = np.percentile(values, (5, 50, 95))
        numbers = {"low": low, "median": middle, "high": high}
        numbers["worst"] = values.min() if measure.worst_is_low else values.max()
        texts = {name: measure.words(value) for name, value in numbers.items()}
        rows.append({"name": measure.name, "meaning": measure.meaning, **texts})
    return rows


def signal_plots(corpus: MeasuredCorpus) -> dict[str, Plot]:
    """SNR by class, and histograms of the other measures that are not the same everywhere."""
    table = corpus.signal
    groups = corpus.by_class(table, "snr_db")
    test = over_speakers(corpus, table, "snr_db")
    found = f" Over means of {counted(test.speakers, 'speaker')}: {test.name}, {format_p(test.p)}." if test.name else ""
    snr = Plot(
        figures.violins(groups, "signal-to-noise ratio in dB", False, speaker_dots(corpus, table, "snr_db")),
        f"Signal-to-noise ratio by emotion, in dB: {medians(groups)}",
        f"Signal-to-noise ratio. Loud speech stands out more from the same noise, so that it differs with emotion even "
        f"in one room; where it differs much, test a model on noise too (ser robustness).{found}",
    )
    plots = {"snr_db": snr}
    for key in ("bandwidth_hz", "silent_share", "clipped_share"):
        measure, values = SIGNAL[key], table[key].to_numpy()
        if not is_bad(key, values).any() and key != "silent_share":
            continue  # a histogram of one bar
        shown = 100 * values if measure.unit == "%" else values
        plots[key] = Plot(
            figures.histogram(shown, f"{measure.name}, {measure.unit}", measure.bounds),
            f"{measure.name} of the clips: median {measure.words(float(np.median(values)))}, from "
            f"{measure.words(values.min())} to {measure.words(values.max())}",
            f"{measure.name[0].upper()}{measure.name[1:]}: {measure.meaning}.",
        )
    return plots


def signal_findings(corpus: MeasuredCorpus) -> list[str]:
    """Sentences on clips that are noisy, narrow, clipped or mostly silent; empty where there are none."""
    table, total = corpus.signal, len(corpus.signal)
    bad = {
        f"have a signal-to-noise ratio below {NOISY_BELOW_DB:g} dB": table["snr_db"] < NOISY_BELOW_DB,
        f"hold nothing above {TELEPHONE_BELOW_HZ:,.0f} Hz, like a telephone": table["bandwidth_hz"]
        < TELEPHONE_BELOW_HZ,
        f"are clipped ({format_percent(CLIPPED_FROM, 1)} of the samples or more)": table["clipped_share"]
        >= CLIPPED_FROM,
        f"are silent for {format_percent(SILENT_FROM)} of their time or more": table["silent_share"] >= SILENT_FROM,
    }
    found = []
    for words, are_bad in bad.items():
        if are_bad.any():
            found.append(f"{format_count(int(are_bad.sum()))} of {format_count(total)} clips {words}.")
    return found


def worst_recorded_clips(corpus: MeasuredCorpus) -> list[dict[str, Any]]:
    """The worst clips of each measure: `row` in the corpus, `id`, `what`, `emotion`, `speaker`.

    The three noisiest are always listed; by the other measures, up to three that are bad.
    """
    found: list[dict[str, Any]] = []
    for key, measure in SIGNAL.items():
        table = corpus.signal.sort_values(key, ascending=measure.worst_is_low, kind="stable")
        for row, clip in table[is_bad(key, table[key])].head(MAX_WORST).iterrows():
            about = {name: None if pd.isna(clip[name]) else clip[name] for name in ("id", "speaker")}
            about["emotion"] = clip["emotion"] if corpus.has_classes else None
            found.append({"row": int(row), "what": f"{measure.name} {measure.words(clip[key])}", **about})
    return found


def copy_section(corpus: MeasuredCorpus) -> dict[str, Any]:
    """Duplicates: `sentences`, and `rows` with `clips`, `kind` and `labels`; empty `rows` where there are none."""
    copies = corpus.copies
    if copies is None:
        return {"sentences": ["They were not looked for, since the corpus is large; ser audit does."], "rows": []}
    emotion = dict(zip(corpus.clips["id"], corpus.clips["emotion"], strict=True))
    groups = [(group, "identical") for group in _identical(copies)]
    near = copies.near or ()
    groups += [
        ((one, two), f"nearly identical ({format_percent(error)} of the bits differ)") for one, two, error in near
    ]
    rows = [
        {
            "clips": ", ".join(group[:6]) + (f" and {len(group) - 6} more" if len(group) > 6 else ""),
            "kind": kind,
            "labels": ", ".join(dict.fromkeys(emotion[name] for name in group)),
            "differ": len({emotion[name] for name in group}) > 1,
        }
        for group, kind in groups
    ]
    rows.sort(key=lambda row: not row["differ"])
    sentences = copy_findings(corpus) or ["No recording occurs twice."]
    if copies.near is None:
        sentences.append("Nearly identical recordings were not looked for.")
    if len(rows) > MAX_COPIES:
        sentences.append(f"The first {MAX_COPIES} of {format_count(len(rows))} groups are shown.")
    return {"sentences": sentences, "rows": rows[:MAX_COPIES]}


def copy_findings(corpus: MeasuredCorpus) -> list[str]:
    """Sentences on duplicates; empty where none were found."""
    if corpus.copies is None:
        return []
    identical, near = _identical(corpus.copies), corpus.copies.near or ()
    emotion = dict(zip(corpus.clips["id"], corpus.clips["emotion"], strict=True))
    found = []
    if identical:
        number = sum(map(len, identical))
        found.append(f"{format_count(number)} clips are copies of another, in {counted(len(identical), 'group')}.")
    if near:
        found.append(f"{counted(len(near), 'pair')} of clips {'is' if len(near) == 1 else 'are'} nearly identical.")
    groups = [*identical, *((one, two) for one, two, _ in near)]
    differ = [group for group in groups if len({emotion[name] for name in group}) > 1]
    if differ:
        named = listed((" = ".join(group[:3]) for group in differ), 3)
        found.append(f"Copies have different labels in {counted(len(differ), 'group')}: {named}.")
    return found


def _identical(copies: Copies) -> list[tuple[str, ...]]:
    """Groups of clips with the same samples."""
    groups = defaultdict(list)
    for name, value in copies.hashes.items():
        groups[value].append(name)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]

"""What a prepared corpus holds, as text."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ser.data.audio import corpus_facts
from ser.data.clips import counted
from ser.data.corpora.problems import unusable

if TYPE_CHECKING:
    import datasets


# The pipeline classifies a longer recording in windows; `ser_model.MAX_WHOLE_SECONDS` says the same.
LONG_SECONDS = 60.0


def warnings_of(dataset: "datasets.Dataset") -> list[str]:
    """What a user must know of a prepared corpus before training."""
    facts = corpus_facts(dataset)
    words = [f"{facts['name']} differs from what is published: {difference}" for difference in facts["differences"]]
    if facts["skipped"]:
        words.append(f"{facts['name']}: {len(facts['skipped'])} files were left out (skip_unreadable)")
    long = long_clips_words(dataset["id"][:], dataset["duration"][:])
    return words + ([f"{facts['name']}: {long}"] if long else [])


def long_clips_words(ids: Sequence[str], durations: Sequence[float], most: float = LONG_SECONDS) -> str | None:
    """Which clips are longer than `most` seconds and what is done with them; None if there are none."""
    long = sum(seconds > most for seconds in durations)
    if not long:
        return None
    seconds, longest = max(zip(durations, ids, strict=True))
    return (
        f"{counted(long, 'clip')} of more than {most:g} s (the longest is {longest!r}, {seconds:.0f} s). Fine-tuning "
        f"hears {most:g} s of such a clip, from another start in each epoch (--max_train_seconds changes that); frozen "
        "statistics are those of all its pieces. Dev, test and the pipeline score it in windows and average the "
        "scores. One label for minutes of speech is vague: cut such clips with the columns start and end where you can."
    )


def summary(dataset: "datasets.Dataset") -> str:
    """Clips, hours, speakers and seconds per class of a prepared corpus, what is odd in it and what was left out."""
    facts, durations, speakers = corpus_facts(dataset), dataset["duration"], dataset["speaker"]
    genders = Counter(dict(zip(speakers, dataset["gender"], strict=True)).values())
    known = ", ".join(f"{genders[name]} {name}" for name in ("female", "male") if genders[name])
    lines = [
        f"corpus    {facts['name']} (labels: {facts['label_source']})",
        f"clips     {len(dataset)}",
        f"hours     {sum(durations) / 3600:.2f}",
        f"speakers  {len(set(speakers) - {None}) or 'not known'}" + (f" ({known})" if known else ""),
    ]
    seconds = defaultdict(list)
    if "emotion" in dataset.features:
        names = dataset.features["emotion"].names
        for label, duration in zip(dataset["emotion"], durations, strict=True):
            seconds[names[label]].append(duration)
        lines.append(f"{'class':<14}{'clips':>7}{'seconds':>10}{'mean s':>8}")
        for name in names:
            count, total = len(seconds[name]), sum(seconds[name])
            lines.append(f"{name:<14}{count:>7}{total:>10.1f}{total / max(count, 1):>8.2f}")
    lines += [f"DIFFERS FROM WHAT IS PUBLISHED: {difference}" for difference in facts["differences"]]
    lines += [f"note: {note}" for note in facts["notes"]]
    if words := long_clips_words(dataset["id"], durations):
        lines.append(f"LONG CLIPS: {words}")
    if facts["skipped"]:
        lines.append(f"LEFT OUT: {unusable(facts['skipped'], len(dataset) + len(facts['skipped']))}")
    return "\n".join(lines)

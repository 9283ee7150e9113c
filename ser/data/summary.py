"""What a prepared corpus holds, as text."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ser.data.audio import corpus_facts
from ser.data.corpora.problems import unusable

if TYPE_CHECKING:
    import datasets


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
    if facts["skipped"]:
        lines.append(f"LEFT OUT: {unusable(facts['skipped'], len(dataset) + len(facts['skipped']))}")
    return "\n".join(lines)

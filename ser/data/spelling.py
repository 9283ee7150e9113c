"""Speakers and labels of a corpus that differ in spelling alone."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ser.data.clips import listed
from ser.names import alike, check_speakers

if TYPE_CHECKING:
    from ser.data.corpora.recordings import Corpus
    from ser.data.data_arguments import DataArguments


def check_spelling(corpus: "Corpus", labels: Sequence[str], args: "DataArguments") -> None:
    """Refuses a corpus in which two speakers or two labels differ in spelling alone.

    Args:
        corpus: After the label map.
        labels: Its labels before the map, for the map that the message proposes.
        args: `speakers_differ` and `label_map` are read.

    Raises:
        ValueError: See above; the message lists the spellings and says how to join them.
    """
    usable = [recording for recording in corpus.recordings if not recording.problem]
    if not args.speakers_differ:
        check_speakers(recording.speaker for recording in usable)
    counts = Counter(recording.emotion for recording in usable)
    mapping = args.parsed_label_map()
    after = {label: mapping.get(label, label) for label in labels}
    check_labels({label: counts[label] for label in corpus.labels}, after, "--corpora" if args.corpora else args.corpus)


def check_labels(counts: Mapping[str, int], after: Mapping[str, str | None], what: str) -> None:
    """Refuses labels that differ in spelling alone.

    Args:
        counts: Clips of each label.
        after: What a label map makes of each label of the source; the map that the message proposes goes on from it.
        what: The corpus or file, for the message.

    Raises:
        ValueError: There are such labels; the message lists the spellings and the map that joins them.
    """
    groups = alike(counts)
    if not groups:
        return
    # The most frequent spelling is proposed for its group.
    chosen = {label: max(group, key=lambda one: counts[one]) for group in groups for label in group}
    joined = json.dumps({label: new and chosen.get(new, new) for label, new in after.items()}, ensure_ascii=False)
    named = (" and ".join(f"{label!r} ({counts[label]} clips)" for label in group) for group in groups)
    raise ValueError(
        f"{what}: labels that differ in spelling alone: {listed(named)}. Join them with --label_map '{joined}'."
    )

"""Speakers and labels of a corpus that differ in spelling alone."""

import json
from collections import Counter
from collections.abc import Sequence
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
    groups = alike(corpus.labels)
    if not groups:
        return
    counts = Counter(recording.emotion for recording in usable)
    # The most frequent spelling is proposed for its group.
    chosen = {label: max(group, key=lambda one: counts[one]) for group in groups for label in group}
    mapping = args.parsed_label_map()
    after = {label: mapping.get(label, label) for label in labels}
    joined = json.dumps({label: chosen.get(new, new) for label, new in after.items()}, ensure_ascii=False)
    named = (" and ".join(f"{label!r} ({counts[label]} clips)" for label in group) for group in groups)
    what = "--corpora" if args.corpora else args.corpus
    raise ValueError(
        f"{what}: labels that differ in spelling alone: {listed(named)}. Join them with --label_map '{joined}'."
    )

"""What must not be in two parts of a split: a clip, a speaker, a recording."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ser.data.clips import DEV, TEST, TRAIN, Clip

Parts = Mapping[str, Sequence[str]]


class Pair(NamedTuple):
    """Two clips in two parts that hold the same or nearly the same audio.

    Attributes:
        bit_error: Share of the fingerprint's bits that differ, 0 for identical samples.
    """

    first_part: str
    first: str
    second_part: str
    second: str
    bit_error: float = 0.0


def pairs_of_parts(parts: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of parts to compare; (train, test) comes before the pairs with dev."""
    names = list(parts)
    pairs = list(combinations(names, 2))
    return sorted(pairs, key=lambda pair: (DEV in pair, TRAIN not in pair)) if TEST in names else pairs


def clips_in_two_parts(parts: Parts) -> dict[str, list[str]]:
    """The parts of each id that is in more than one: `{id: [part, part]}`."""
    found = defaultdict(list)
    for part, ids in parts.items():
        for i in dict.fromkeys(ids):
            found[i].append(part)
    return {i: own for i, own in found.items() if len(own) > 1}


def speakers_by_part(parts: Parts, clips: Iterable[Clip]) -> dict[str, set[str]]:
    """The speakers of each part, as far as they are known."""
    speaker_of = {clip.id: clip.speaker for clip in clips}
    return {part: {name for i in ids if (name := speaker_of.get(i)) is not None} for part, ids in parts.items()}


def shared_speakers(parts: Parts, clips: Iterable[Clip]) -> dict[tuple[str, str], list[str]]:
    """The speakers that two parts share, by the pair of parts; only pairs that share one."""
    heard = speakers_by_part(parts, clips)
    return {pair: both for pair in pairs_of_parts(parts) if (both := sorted(heard[pair[0]] & heard[pair[1]]))}


def speaker_leaks(parts: Parts, clips: Iterable[Clip]) -> list[str]:
    """Sentences on the speakers of each part that an earlier part has too, the last part (test) first.

    A model is trained on train and chosen by dev, so a speaker of test must be in neither.
    """
    heard, found = speakers_by_part(parts, clips), []
    for index, part in enumerate(parts):
        where = [earlier for earlier in list(parts)[:index] if heard[earlier] & heard[part]]
        both = heard[part] & set().union(*(heard[earlier] for earlier in where))
        if both:
            found.append(f"{len(both)} of the {len(heard[part])} {part} speakers are also in {' or '.join(where)}.")
    return found[::-1]


def shared_recordings(parts: Parts, recordings: Mapping[str, str]) -> list[Pair]:
    """The clips in two parts whose decoded samples are the same, under another id.

    Args:
        parts: The ids of each part.
        recordings: Hash of the samples of each clip whose audio is known.
    """
    clips_by_hash = defaultdict(list)
    for part, ids in parts.items():
        for i in dict.fromkeys(ids):
            if i in recordings:
                clips_by_hash[recordings[i]].append((part, i))
    pairs = (pair for own in clips_by_hash.values() for pair in combinations(own, 2))
    return [Pair(*first, *second) for first, second in pairs if first[0] != second[0] and first[1] != second[1]]


def searched_in_all(audits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins what the audits of several folds looked for and found."""
    shared: dict[str, dict[str, Any]] = {}
    for found in audits:
        for pair, counts in found["shared_speakers"].items():
            if pair not in shared or counts["shared"] > shared[pair]["shared"]:
                shared[pair] = counts
    kinds = ("identical_audio", "near_identical_audio")
    return {
        "checked": {key: all(found["checked"][key] for found in audits) for key in audits[0]["checked"]},
        "shared_speakers": shared,
        **{kind: [pair for found in audits for pair in found[kind]] for kind in kinds},
    }


def near_recordings(parts: Parts, near: Iterable[tuple[str, str, float]]) -> list[Pair]:
    """The clips in two parts that sound the same to the fingerprint.

    Args:
        parts: The ids of each part.
        near: Ids of two clips, and the share of the bits that differ; see `Copies.near`.
    """
    found_in = defaultdict(list)
    for index, (part, ids) in enumerate(parts.items()):
        for i in dict.fromkeys(ids):
            found_in[i].append((index, part, i))
    pairs = ((sorted((one, two)), error) for a, b, error in near for one in found_in[a] for two in found_in[b])
    return [Pair(*one[1:], *two[1:], error) for (one, two), error in pairs if one[0] != two[0]]

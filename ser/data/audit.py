"""What is wrong with a split: speakers and recordings in two parts, classes too small to score, uneven genders."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ser.clip_names import one_name_each
from ser.data.clips import ALL_CLIPS, DEV, TEST, TRAIN, Clip, classes_of, counted, listed, read_clips
from ser.data.copies import Copies, copies_in, copies_of
from ser.data.leaks import (
    Pair,
    clips_in_two_parts,
    near_recordings,
    pairs_of_parts,
    searched_in_all,
    shared_recordings,
    speaker_leaks,
    speakers_by_part,
)
from ser.data.spelling import check_labels
from ser.data.split_audio import recordings_in, waves_of_clips
from ser.data.split_files import read_frozen, read_split_file, split_paths
from ser.data.splits import Split, num_folds_of
from ser.names import check_speakers

# With fewer clips or speakers than this, the recall of a class is too uncertain to be called a score: with 20 clips, a
# recall of 0.5 has a 95 % interval (Wilson) of 0.30 to 0.70, and clips of one speaker are not independent.
MIN_CLIPS, MIN_SPEAKERS = 20, 5
# Share of the clips below which a gender is called rare in a part.
MIN_GENDER_SHARE = 0.2


def audit(split: Split, columns: Mapping[str, list] | Any) -> dict[str, Any]:
    """Audits a split of a corpus, with its recordings where `copies_of` can read them.

    Args:
        split: What `make_split` returned.
        columns: The corpus, as for `make_split`.

    Returns:
        See [`audit_parts`].
    """
    return audit_parts(split.parts, read_clips(columns), copies_of(columns), classes_of(columns))


def what_is_wrong(split: Split, columns: Mapping[str, list] | Any) -> list[str]:
    """Sentences that a reader of this split's results must know, found in the data; empty where nothing is wrong."""
    found = audit(split, columns)
    once = []
    if num_folds_of(split.protocol, columns) == 1:
        total = sum(len(ids) for ids in split.parts.values())
        speakers = found["parts"][TEST]["speakers"]
        by = f", by {counted(speakers, 'speaker')}," if speakers else ""
        once = [f"Only {len(split.test)} of {counted(total, 'clip')}{by} are ever tested: there is no other fold."]
    return [*found["leaks"], *found["warnings"], *once, *split.notes]


def audit_of_folds(splits: Sequence[Split], columns: Mapping[str, list] | Any) -> dict[str, Any]:
    """Audits several folds as one pooled result.

    A class that is too small to score in one fold may be large enough in all of them; a leak in one fold is a leak.

    Args:
        splits: The folds, whose test clips are pooled.
        columns: As for [`audit`].

    Returns:
        `ok`, `leaks`, `warnings`, and `what_is_wrong` (leaks, warnings and the notes of the protocol). As in
        [`audit_parts`]: `checked` (what was looked for in every fold), `shared_speakers` (for each pair of parts, the
        fold that shares most), `identical_audio` and `near_identical_audio` (of all folds).
    """
    audits = [audit(split, columns) for split in splits]
    searched = searched_in_all(audits)
    if len(splits) == 1:
        wrong = what_is_wrong(splits[0], columns)
        return {key: audits[0][key] for key in ("ok", "leaks", "warnings")} | {"what_is_wrong": wrong, **searched}
    leaky = [found["leaks"] for found in audits if found["leaks"]]
    leaks = list(leaky[0]) if leaky else []
    if len(leaky) > 1:
        leaks.append(f"{len(leaky)} of {len(splits)} folds leak; the lines above are about the first of them.")
    tested = {clip for split in splits for clip in split.test}
    pooled = audit_parts({TEST: sorted(tested)}, read_clips(columns), Copies({}), classes_of(columns))
    notes = dict.fromkeys(note for split in splits for note in split.notes)
    wrong = [*leaks, *pooled["warnings"], *notes]
    found = {"ok": _verdict(leaks, searched["checked"]), "leaks": leaks, "warnings": pooled["warnings"]}
    return {**found, "what_is_wrong": wrong, **searched}


def audit_files(
    files: Sequence[str],
    audio: str | None = None,
    read_wave: Callable[[str], np.ndarray] | None = None,
    speakers_differ: bool = False,
) -> dict[str, Any]:
    """Audits the split that files hold together: ours, EmoBox's, nkululeko's, any manifest, or frozen folds.

    Args:
        files: Files, or one folder.
        audio: Folder of the recordings, searched to any depth. A recording belongs to the clip that has its name or
            path without suffix. Without it, recordings are compared only where a file holds their hashes.
        read_wave: Reads one recording as `(T,)` float32 at 16 kHz; needed with `audio`.
        speakers_differ: Whether speakers whose names differ in spelling alone are different people.

    Returns:
        See [`audit_parts`].

    Raises:
        ValueError, FileNotFoundError: A file is missing or not a split, no recording of the split is in `audio`, a name
            may mean two clips or recordings, or speakers or labels differ in spelling alone.
    """
    paths = split_paths(",".join(files))
    frozen = read_frozen(paths[0]) if len(paths) == 1 else None
    tables = [frozen] if frozen else [read_split_file(path) for path in paths]
    name_of = one_name_each([[clip.id for clip in table] for table in tables])
    rows = [replace(clip, id=name_of[clip.id]) for table in tables for clip in table]
    if not speakers_differ:
        check_speakers((clip.speaker for clip in rows), "--speakers-differ")
    labels = Counter(clip.emotion for clip in rows)
    check_labels(labels, {label: label for label in sorted(labels)}, listed(paths))
    parts: dict[str, list[str]] = {part: [] for part in (() if frozen else (TRAIN, DEV, TEST))}
    for clip in rows:
        if clip.split is not None:
            parts.setdefault(clip.split, []).append(clip.id)
    every, rows = {clip.id for clip in rows}, [clip for clip in rows if clip.split is not None]
    copies = Copies({clip.id: clip.recording for clip in rows if clip.recording})
    lacking: Sequence[str] = ()
    if audio is not None:
        if read_wave is None:
            raise TypeError("audit_files: with `audio`, `read_wave` must be given too; it reads one recording.")
        found, lacking = recordings_in(audio, rows)
        heard = copies_in(waves_of_clips(found, rows, read_wave))
        copies = Copies({**copies.hashes, **heard.hashes}, heard.near)
    result = audit_parts(parts, rows, copies)
    total = len({clip.id for clip in rows})
    if total < len(every):
        result["warnings"].append(f"{len(every) - total} of {len(every)} clips are in no part: their split is empty.")
    if lacking:
        result["warnings"].append(f"{len(lacking)} of {total} recordings are not in {audio} ({listed(lacking, 3)}).")
    return {"files": [str(path) for path in paths], **result}


def audit_parts(
    parts: Mapping[str, Sequence[str]],
    clips: Iterable[Clip],
    copies: Copies,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Audits ids in parts.

    Args:
        parts: The ids of each part.
        clips: What is known of each clip.
        copies: What is known of their recordings.
        classes: The labels; those that occur, by default.

    Returns:
        `ok` (False: there is a leak; True: there is none; None: none was found, and not all was looked for), `leaks`
        and `warnings` (sentences), `checked` (which searches could be made), and what they rest on: `parts` (clips,
        speakers, genders, clips and speakers per class), `clips_in_two_parts`, `shared_speakers` (by "train/test":
        `shared`, `of`, `speakers`), `identical_audio` and `near_identical_audio` (lists of pairs), `too_small` (part,
        class, clips, speakers).
    """
    clips = list({clip.id: clip for clip in clips}.values())
    classes = classes or sorted({clip.emotion for clip in clips})
    known = {clip.id: clip for clip in clips}
    tables = {part: _part_table([known[i] for i in dict.fromkeys(ids)], classes) for part, ids in parts.items()}
    twice, identical = clips_in_two_parts(parts), shared_recordings(parts, copies.hashes)
    near = near_recordings(parts, copies.near or ())
    small = _too_small(tables)
    leaks = [f"{len(twice)} clips are in two parts ({listed(twice, 5)})."] if twice else []
    leaks += speaker_leaks(parts, clips)
    leaks += _pair_leak("identical", identical) + _pair_leak("nearly identical", near)
    checked = {
        "speakers": any(clip.speaker for clip in clips),
        "identical_audio": bool(copies.hashes),
        "near_identical_audio": copies.near is not None,
    }
    return {
        "ok": _verdict(leaks, checked),
        "leaks": leaks,
        "warnings": _warnings(tables, small, clips),
        "checked": checked,
        "parts": tables,
        "clips_in_two_parts": twice,
        "shared_speakers": _shared(parts, clips),
        "identical_audio": [pair._asdict() for pair in identical],
        "near_identical_audio": [pair._asdict() for pair in near],
        "too_small": small,
    }


def _verdict(leaks: Sequence[str], checked: Mapping[str, bool]) -> bool | None:
    """`ok` of an audit: None where no leak was found and one of the searches was not made."""
    return False if leaks else (True if all(checked.values()) else None)


def _part_table(clips: Sequence[Clip], classes: Sequence[str]) -> dict[str, Any]:
    """Counts of one part; speakers are None where no clip names one."""
    speakers = {label: {clip.speaker for clip in clips if clip.emotion == label} - {None} for label in classes}
    nameless = sum(clip.speaker is None for clip in clips)
    labels = Counter(clip.emotion for clip in clips)
    return {
        "clips": len(clips),
        "speakers": len(set().union(*speakers.values())) or (None if clips else 0),
        "clips_without_speaker": nameless,
        "genders": dict(sorted(Counter(clip.gender or "unknown" for clip in clips).items())),
        "clips_per_class": {label: labels[label] for label in classes},
        "speakers_per_class": {
            label: len(own) if nameless < len(clips) or not clips else None for label, own in speakers.items()
        },
    }


def _shared(parts: Mapping[str, Sequence[str]], clips: Sequence[Clip]) -> dict[str, dict[str, Any]]:
    heard = speakers_by_part(parts, clips)
    return {
        f"{first}/{second}": {
            "shared": len(heard[first] & heard[second]),
            "of": len(heard[second]),
            "speakers": sorted(heard[first] & heard[second]),
        }
        for first, second in pairs_of_parts(parts)
        if heard[first] and heard[second]
    }


def _too_small(tables: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The classes too small to score, in the parts that are scored.

    They have under 20 clips, or under 5 speakers although the part has that many.
    """
    rows = [
        {"part": part, "class": label, "clips": count, "speakers": table["speakers_per_class"][label]}
        for part, table in tables.items()
        if part not in (TRAIN, DEV) and table["clips"]
        for label, count in table["clips_per_class"].items()
    ]
    few = [(tables[row["part"]]["speakers"] or 0) >= MIN_SPEAKERS > (row["speakers"] or 0) for row in rows]
    return [row for row, few_speakers in zip(rows, few, strict=True) if few_speakers or row["clips"] < MIN_CLIPS]


def _warnings(
    tables: Mapping[str, dict[str, Any]], small: Sequence[dict[str, Any]], clips: Sequence[Clip]
) -> list[str]:
    found = [f"There is no {part}." for part, table in tables.items() if not table["clips"]]
    nameless = sum(clip.speaker is None for clip in clips)
    if nameless:
        found.append(f"{nameless} of {len(clips)} clips name no speaker: whether speakers are shared is unknown.")
    if {clip.emotion for clip in clips} == {ALL_CLIPS}:
        found.append("No labels are known: classes are not checked.")
        small = []
    for part in dict.fromkeys(row["part"] for row in small):
        rows = [row for row in small if row["part"] == part]
        found += [f"{part} has no clip of {row['class']}." for row in rows if not row["clips"]]
        few = [f"{row['class']} ({_how_few(row)})" for row in rows if row["clips"]]
        found += [f"{part} has classes too small to score alone: {', '.join(few)}."] if few else []
    for part, table in tables.items():
        if 0 < (table["speakers"] or 0) < MIN_SPEAKERS:
            if part not in (TRAIN, DEV):
                found.append(f"{part} has {counted(table['speakers'], 'speaker')}: its score rests on few people.")
            continue
        both = {gender: table["genders"].get(gender, 0) for gender in ("female", "male")}
        rare, count = min(both.items(), key=lambda item: item[1])
        if count < MIN_GENDER_SHARE * sum(both.values()):
            found.append(f"{part} is uneven: {count} of its {sum(both.values())} clips are {rare}.")
    return found


def _how_few(row: Mapping[str, Any]) -> str:
    return counted(row["clips"], "clip") + (f" by {counted(row['speakers'], 'speaker')}" if row["speakers"] else "")


def _pair_leak(kind: str, pairs: Sequence[Pair]) -> list[str]:
    named = (f"{pair.first} in {pair.first_part} = {pair.second} in {pair.second_part}" for pair in pairs)
    return [f"{len(pairs)} {kind} recordings are in two parts ({listed(named, 5)})."] if pairs else []

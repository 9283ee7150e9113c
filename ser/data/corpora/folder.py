"""A folder of the user's own clips, sorted into folders by label, and perhaps by part of the split and speaker."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ser.audio_files import AUDIO_SUFFIXES
from ser.data.clips import listed, split_word
from ser.data.corpora.recordings import (
    Corpus,
    Recording,
    find_audio,
    folder_of,
    own_corpus,
)
from ser.names import cell, speaker_cell, tidy

if TYPE_CHECKING:
    from ser.data.data_arguments import DataArguments

_LEVELS = ("label", "speaker", "split", "-")


def folder(args: "DataArguments") -> Corpus:
    """Clips below `--data_dir`, in a folder for each label; `--folder_levels` says what each level of folders means.

    Without the flag the first level is the label. If the first level holds only folders named train, dev, test and the
    like, it is the split and the next level is the label.

    Raises:
        ValueError: The levels do not fit, or the first level may be labels or speakers.
    """
    root = folder_of(args)
    paths = find_audio(root, AUDIO_SUFFIXES)
    levels = _asked_levels(args.folder_levels) or _levels_of([Path(path).parts[:-1] for path in paths], root)
    corpus = own_corpus(args, root, (_recording_at(path, levels) for path in paths))
    return replace(corpus, has_split="split" in levels)


def _asked_levels(text: str | None) -> tuple[str, ...]:
    levels = tuple(level.strip() for level in (text or "").split(",") if level.strip())
    named = [level for level in levels if level != "-"]
    if levels and (set(levels) - set(_LEVELS) or "label" not in levels or len(set(named)) < len(named)):
        raise ValueError(
            f"--folder_levels: {text!r} must name label once, and may name split and speaker once, with - for a level "
            "that means nothing: split,label,speaker."
        )
    return levels


def _levels_of(folders: list[tuple[str, ...]], root: Path) -> tuple[str, ...]:
    """What the levels mean, told by their names."""
    top = sorted({own[0] for own in folders if own})
    parts = [name for name in top if _is_part(name)]
    if parts and len(parts) < len(top):
        others = [name for name in top if name not in parts]
        raise ValueError(
            f"--data_dir: {str(root)!r} holds folders named like parts of a split ({listed(parts, 3)}) and others "
            f"({listed(others, 3)}). Say what the levels mean: --folder_levels label, or --folder_levels split,label."
        )
    before = ("split",) if parts else ()
    _check_labels([own[len(before) :] for own in folders], before, root)
    return (*before, "label")


def _check_labels(folders: list[tuple[str, ...]], before: tuple[str, ...], root: Path) -> None:
    """Refuses folders whose names repeat below each other's: these may be the labels, and the upper ones speakers."""
    top = {own[0] for own in folders if own}
    above = defaultdict(set)
    for own in folders:
        if len(own) > 1:
            above[own[1]].add(own[0])
    repeated = {name: own for name, own in above.items() if len(own) > 1}
    if len(repeated) < 2 or set().union(*repeated.values()) != top:
        return
    first, second = (",".join((*before, *levels)) for levels in (("speaker", "label"), ("label", "speaker")))
    raise ValueError(
        f"--data_dir: in {str(root)!r}, the folders {listed(sorted(top), 3)} each hold folders of the same names "
        f"({listed(sorted(repeated), 3)}). Say which are the labels: --folder_levels {first} (labels "
        f"{listed(sorted(repeated), 3)}), or --folder_levels {second} (labels {listed(sorted(top), 3)}); - stands for "
        "a level that means nothing."
    )


def _is_part(name: str) -> bool:
    try:
        return split_word(name) is not None
    except ValueError:
        return False


def _recording_at(path: str, levels: tuple[str, ...]) -> Recording:
    folders = Path(path).parts[:-1]
    if not folders and levels == ("label",):
        return Recording(path, path, problem="lies beside the folders of the labels, in none of them")
    if len(folders) < len(levels):
        return Recording(path, path, problem=f"lies in {len(folders)} folders, and {','.join(levels)} needs more")
    meaning = dict(zip(levels, folders, strict=False))
    label = cell(meaning["label"])
    if label is None:
        return Recording(path, path, problem="lies in a folder whose name means no label; rename it")
    try:
        part = split_word(meaning.get("split"))
    except ValueError as error:
        return Recording(path, path, problem=str(error))
    name = tidy(Path(path).with_suffix("").as_posix())
    return Recording(name, path, emotion=label, speaker=speaker_cell(meaning.get("speaker")), split=part)

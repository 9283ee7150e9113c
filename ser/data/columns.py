"""The names that tables use for their columns, one list for manifests and split files."""

from collections.abc import Iterable

from ser.names import tidy

# A manifest's own name (path, label, ...) is taken first, then the first of these.
COLUMN_NAMES = {
    "path": ("wav", "path", "file", "filename", "file_name", "audio"),
    "label": ("emotion", "emo", "label", "class", "category"),
    "speaker": ("speaker", "spk", "speaker_id", "actor"),
    "gender": ("gender", "sex"),
    "split": ("split", "subset", "partition", "set"),
    "start": ("start", "start_time", "start_seconds", "begin", "onset"),
    "end": ("end", "end_time", "end_seconds", "stop"),
    "duration": ("duration", "duration_seconds", "dur"),
}


def unused_columns(names: Iterable[str], keep: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """Columns that could mean what another column already means: `{"emotion": ("label", "label"), ...}`.

    Args:
        names: The columns of the table.
        keep: Columns that have a meaning of their own here.

    Returns:
        For each unused column, the column that is taken and what it means.
    """
    names, keep = list(names), set(keep)
    taken = {meaning: name for name, meaning in renamed_columns(names, keep).items()}
    unused = {}
    for meaning, aliases in COLUMN_NAMES.items():
        own = taken.get(meaning, meaning)
        for name in names:
            if tidy(name).lower() in aliases and name != own and name not in keep:
                unused[name] = own, meaning
    return unused


def renamed_columns(names: Iterable[str], keep: Iterable[str] = ()) -> dict[str, str]:
    """Which columns of a table mean path, label, speaker, gender, split, start, end or duration under another
    name, in any case.

    Args:
        names: The columns of the table.
        keep: Columns that have a meaning of their own here.

    Returns:
        `{"Emotion": "label", ...}`; columns that are named as expected are left out.
    """
    names, keep = list(names), set(keep)
    found = {}
    for meaning, aliases in COLUMN_NAMES.items():
        if meaning in names:
            continue
        known = [name for alias in aliases for name in names if tidy(name).lower() == alias and name not in keep]
        if known:
            found[known[0]] = meaning
    return found

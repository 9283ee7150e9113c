"""A dataset of the `datasets` library with an audio column: a name on the Hub, or a folder on the disk."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ser.audio_files import AUDIO_SUFFIXES, as_on_disk
from ser.clip_names import shortest_ids
from ser.data.clips import closest, listed, split_word
from ser.data.columns import renamed_columns
from ser.data.corpora.manifest import MADE_COLUMNS, row_recording
from ser.data.corpora.recordings import Corpus, Recording, own_corpus
from ser.names import cell, tidy

if TYPE_CHECKING:
    import datasets

    from ser.data.data_arguments import DataArguments

# The row of a table of `datasets` that a recording came from: its split, and its number there.
Place = tuple[str, int]


def dataset(args: "DataArguments") -> Corpus:
    """Clips of `--dataset_name`, read without torchcodec: the audio is decoded by the readers of all other corpora.

    Columns are recognised by the names that manifests may have. Splits named train, validation (or dev) and test are
    the split of the corpus if there are several.

    Raises:
        ValueError: The flag is missing, the dataset cannot be loaded, or a column is missing.
        FileNotFoundError: There is no such folder.
    """
    if not args.dataset_name:
        raise ValueError(
            "--dataset_name: --corpus dataset needs a folder of save_to_disk, or a name on the Hub such as user/name."
        )
    parts = {split: _undecoded(part) for split, part in _loaded(args.dataset_name).items()}
    tables = dict(_tables(parts, args))
    recordings, places = _recordings(tables, args)
    corpus = own_corpus(args, Path.cwd(), recordings)
    has_split = any(recording.split for recording in recordings)
    state = tuple(sorted((split, part._fingerprint) for split, part in parts.items()))
    info = next(iter(parts.values())).info
    facts = {"licence": info.license or None, "citation": info.citation or None, "homepage": info.homepage or None}
    corpus = replace(corpus, facts={**corpus.facts, **facts}, root=None, has_split=has_split, state=state)
    corpus = replace(corpus, target_columns=tuple(args.parsed_target_columns()))
    return replace(corpus, fetch=lambda folder: _fetched(corpus, parts, places, folder))


def _loaded(name: str) -> dict[str, "datasets.Dataset"]:
    """The splits of a dataset."""
    import datasets

    folder = as_on_disk(Path(name).expanduser())
    is_saved = any((folder / file).is_file() for file in ("state.json", "dataset_dict.json"))
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise FileNotFoundError(f"--dataset_name: {name!r} is not a folder.")
    try:
        if is_saved:
            found = datasets.load_from_disk(str(folder))
        elif folder.is_dir():
            found = datasets.load_dataset(str(folder))
        else:
            repository, _, configuration = name.partition(":")
            found = datasets.load_dataset(repository, configuration or None)
    except (ValueError, OSError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        if "torchcodec" in f"{error} {error.__cause__}":
            raise ValueError(
                f"--dataset_name: {name!r} holds audio files, which datasets reads with torchcodec only. Download them "
                "and use --corpus folder, or --corpus manifest --manifest metadata.csv."
            ) from None
        raise ValueError(
            f"--dataset_name: {name!r} cannot be loaded ({' '.join(str(error).split())}). Give a folder of "
            "save_to_disk, or user/name or user/name:configuration on the Hub."
        ) from None
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}


def _undecoded(part: "datasets.Dataset") -> "datasets.Dataset":
    """The same rows with audio as `{"bytes", "path"}`."""
    import datasets

    for name, feature in part.features.items():
        if isinstance(feature, datasets.Audio):
            part = part.cast_column(name, datasets.Audio(decode=False))
    return part


def _audio_column(part: "datasets.Dataset", name: str) -> str:
    import datasets

    found = [column for column, feature in part.features.items() if isinstance(feature, datasets.Audio)]
    if not found:
        raise ValueError(
            f"--dataset_name: {name} has no column of audio, only {listed(part.column_names)}; cast one with "
            "cast_column(name, Audio()) and save it again."
        )
    return "audio" if "audio" in found else found[0]


def _tables(
    parts: dict[str, "datasets.Dataset"], args: "DataArguments"
) -> Iterator[tuple[Place, tuple[dict[str, str], str]]]:
    """The cells of each row as text, by our names for its columns, and the path of its audio file."""
    needed = args.parsed_target_columns() or ["label"]
    is_split = len(parts) > 1
    for split, part in parts.items():
        audio = _audio_column(part, str(args.dataset_name))
        renamed = {old: new for old, new in renamed_columns(part.column_names, keep=needed).items() if old != audio}
        columns = [name for name in part.column_names if name != audio]
        names = {name: renamed.get(name, name) for name in columns}
        for name in needed:
            if name not in names.values():
                raise ValueError(
                    f"--dataset_name: {args.dataset_name} has no column {name!r}, only {listed(columns)}; rename it."
                    + closest(name, columns)
                )
        texts = {names[name]: _texts(part, name) for name in columns if names[name] != "path"}
        paths = [str((value or {}).get("path") or "") for value in _paths_of(part, audio)]
        for row, path in enumerate(paths):
            cells = {"split": split} if is_split and _is_part(split) else {}
            cells |= {name: text for name, column in texts.items() if (text := column[row]) is not None}
            yield (split, row), (cells, path)


def _paths_of(part: "datasets.Dataset", audio: str) -> list[dict[str, str] | None]:
    """The column of audio without its bytes."""
    import pyarrow.compute as pc

    column = part.with_format("arrow")[:][audio] if len(part) else []
    return [{"path": path} for path in pc.struct_field(column, "path").to_pylist()] if len(part) else []


def _texts(part: "datasets.Dataset", name: str) -> list[str | None]:
    feature, values = part.features[name], part[name][:]
    if int2str := getattr(feature, "int2str", None):
        return [None if value is None or value < 0 else tidy(int2str(value)) for value in values]
    return [None if isinstance(value, (dict, list, bytes)) else cell(value) for value in values]


def _is_part(split: str) -> bool:
    try:
        return split_word(split) is not None
    except ValueError:
        return False


def _recordings(
    tables: dict[Place, tuple[dict[str, str], str]], args: "DataArguments"
) -> tuple[list[Recording], dict[str, Place]]:
    """The recordings, and where the audio of each of their paths is."""
    targets, recordings, places = args.parsed_target_columns(), [], {}
    paths = [path for _, path in tables.values()]
    ids = shortest_ids(paths) if all(paths) and len(set(paths)) == len(paths) else {}
    for (split, number), (row, path) in tables.items():
        suffix = Path(path).suffix.lower()
        file = f"{_plain(split)}/{number:06d}{suffix if suffix in AUDIO_SUFFIXES else '.wav'}"
        places[file] = split, number
        taken = {name: text for name, text in row.items() if name not in MADE_COLUMNS}
        one = row_recording({**taken, "path": file}, f"row {number} of {split}", targets, "label" in row or not targets)
        made = tidy(ids.get(path) or f"{split}-{number:06d}") + (one.segment.suffix() if one.segment else "")
        recordings.append(replace(one, id=row.get("id", made)))
    return recordings, places


def _plain(split: str) -> str:
    return re.sub(r"[^\w.-]", "_", split)


def _fetched(corpus: Corpus, parts: dict[str, "datasets.Dataset"], places: dict[str, Place], folder: Path) -> Corpus:
    """Writes the audio of each recording into `folder`; audio that is a file on the disk already is read there."""
    recordings = []
    for recording in corpus.recordings:
        split, number = places[recording.path]
        part = parts[split]
        audio = part[number][_audio_column(part, split)] or {}
        if audio.get("bytes") is not None:
            target = folder / recording.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(audio["bytes"])
        elif audio.get("path"):
            recording = replace(recording, path=str(Path(audio["path"]).absolute()))
        else:
            recording = replace(recording, problem=recording.problem or "its row holds no audio")
        recordings.append(recording)
    return replace(corpus, recordings=tuple(recordings), root=folder, fetch=None)

"""Which clips of a corpus hold the same recording: searched once for each corpus, and kept beside the prepared one."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import SAMPLING_RATE_HZ
from ser.data.fingerprint import Fingerprint, fingerprint, near_copies, recording_hash, waves_of
from ser.files import read_json, write_json_rows

logger = logging.getLogger(__name__)
# Part of the file's name: raise it when a change of the code finds other copies in the same clips.
_VERSION = 1
# Fingerprints of this many hours take about 4 GB while they are compared. Larger corpora are not searched for near
# copies, and audits say so.
MAX_HOURS = 100.0
# The copies of the corpus that this process used last.
_held: dict[str, "Copies"] = {}


@dataclass(frozen=True)
class Copies:
    """What is known of the recordings of clips.

    Attributes:
        hashes: Hash of the samples by id, for the clips whose audio is known; clips with one hash are identical.
        near: `(id, id, bit error)` of clips whose samples differ and whose fingerprints are nearly identical, sorted
            by bit error; None where they were not searched for.
    """

    hashes: Mapping[str, str]
    near: tuple[tuple[str, str, float], ...] | None = None


def copies_of(columns: Mapping[str, list] | Any) -> Copies:
    """The copies in a corpus, whatever its split.

    Every clip of a prepared `datasets.Dataset` is read once; a file beside it in the cache then keeps the answer. For
    other columns, only the column `recording` is read, and near copies are not searched for.
    """
    names = getattr(columns, "column_names", None) or list(columns)
    if "recording" in names:
        return Copies({str(i): value for i, value in zip(columns["id"], columns["recording"], strict=True) if value})
    if "audio" not in names or not hasattr(columns, "cast_column"):
        return Copies({})
    dataset: Any = columns
    key = dataset._fingerprint  # datasets' own name for this content, by which it keeps its own results
    if key not in _held:
        path = _file_of(dataset, key)
        found = _read(path) or copies_in(_with_progress(dataset))
        _held.clear()
        _held[key] = found
        _write(found, path)
    return _held[key]


def copies_in(waves: Iterable[tuple[str, np.ndarray]]) -> Copies:
    """Searches clips, given as pairs of id and `(T,)` float32 at 16 kHz, for copies of one another."""
    hashes: dict[str, str] = {}
    prints: dict[str, Fingerprint] = {}
    samples = 0
    for i, wave in waves:
        hashes[i], samples = recording_hash(wave), samples + len(wave)
        if samples <= MAX_HOURS * 3600 * SAMPLING_RATE_HZ:
            prints[i] = fingerprint(wave)
    if len(prints) < len(hashes):
        logger.warning("near copies are not looked for: there are more than %g hours of audio", MAX_HOURS)
        return Copies(hashes)
    ids = list(prints)
    found = near_copies(list(prints.values()), range(len(ids)))
    pairs = ((ids[first], ids[second], round(error, 4)) for first, second, error in found)
    return Copies(hashes, tuple(pair for pair in pairs if hashes[pair[0]] != hashes[pair[1]]))


def _with_progress(dataset: Any) -> Iterable[tuple[str, np.ndarray]]:
    from tqdm.auto import tqdm

    return tqdm(waves_of(dataset), total=len(dataset), unit="clip", desc="fingerprints", delay=3, leave=False)


def _file_of(dataset: Any, key: str) -> Path | None:
    """The file that keeps the answer for a dataset; None for a dataset in memory."""
    files = dataset.cache_files
    return Path(files[0]["filename"]).with_name(f"copies-{_VERSION}-{key}.json") if files else None


def _read(path: Path | None) -> Copies | None:
    if path is None or not path.is_file():
        return None
    content = read_json(path)
    near = content["near"]
    return Copies(content["hashes"], None if near is None else tuple((one, two, error) for one, two, error in near))


def _write(copies: Copies, path: Path | None) -> None:
    if path is None or path.is_file():
        return
    try:
        near = None if copies.near is None else list(copies.near)
        write_json_rows({"hashes": dict(copies.hashes), "near": near}, path)
    except OSError as error:  # a cache that others share may be read-only
        logger.warning("the copies found in the corpus are not kept: %s", error)

"""Where the statistics of frozen encoders are kept, and which of them are of a given corpus. It needs no torch."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from ser.data.audio import undecoded
from ser.files import read_json, write_json

logger = logging.getLogger(__name__)
FOLDER = "ser_probe"


def note_statistics(path: Path, dataset: Any, encoder: str) -> None:
    """Writes beside a table of statistics which clips it is of and which encoder made it.

    Args:
        path: The table, `.npy`.
        dataset: The corpus, one row for each row of the table.
        encoder: Name of the encoder, as readers see it.
    """
    note = path.with_suffix(".json")
    if note.is_file():
        return
    try:
        write_json({"encoder": encoder, "clips": _key_of_clips(dataset)}, note)
    except OSError as error:  # a cache that others share may be read-only
        logger.warning("data_prep.py will not find the statistics of %s: %s", encoder, error)


def find_statistics(dataset: Any, cache: Path, encoder: str | None = None) -> tuple[str, np.ndarray] | None:
    """The statistics of a corpus that a run has left in the cache.

    Args:
        dataset: Prepared corpus.
        cache: Folder of the cache.
        encoder: The encoder that is preferred; of several others, the newest table is taken.

    Returns:
        Name of the encoder and its table `[N, L + 1, 2 D]`, in the order of the rows; None where there is none.
    """
    notes = sorted((cache / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not notes:
        return None
    key = _key_of_clips(dataset)
    found = [(content["encoder"], path) for path in notes if (content := read_json(path)).get("clips") == key]
    found = [(name, path.with_suffix(".npy")) for name, path in found if path.with_suffix(".npy").is_file()]
    if not found:
        return None
    name, path = next((own for own in found if own[0] == encoder), found[0])
    return name, np.load(path, mmap_mode="r")


def _key_of_clips(dataset: Any) -> str:
    """A hash of the ids and of the stored audio, in the order of the rows."""
    digest = hashlib.sha256()
    for row in undecoded(dataset.select_columns(["id", "audio"])):
        digest.update(row["id"].encode() + hashlib.sha256(row["audio"]["bytes"]).digest())
    return digest.hexdigest()[:32]

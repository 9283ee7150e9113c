"""Pooled vectors of recordings, as one Parquet or NumPy file."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from ser.clip_names import shortest_ids
from ser.files import draft_of
from ser.inference.output_formats import stored

SUFFIXES = (".parquet", ".npy")
# Vectors in one row group of a Parquet file: what is in memory at a time.
_GROUP = 1000


def write_embeddings(answers: Iterator[dict[str, Any]], files: list[str], path: Path) -> tuple[int, int]:
    """Writes the vectors of recordings, float32, in the order of `files`.

    A Parquet file has the columns `id` (the shortest end of the path that tells the recordings apart), `file` and
    `embedding`, without the recordings that could not be used. A `.npy` file has one row for each of `files`; the row
    of a recording that could not be used is NaN.

    Args:
        answers: `{"file", "embedding"}` of each usable recording.
        files: All recordings.
        path: The file, whose suffix is one of `SUFFIXES`.

    Returns:
        The number of vectors and their size. Nothing is written without a vector.
    """
    first = next(answers, None)
    if first is None:
        return 0, 0
    answers, size = chain([first], answers), len(first["embedding"])
    with draft_of(path) as draft:
        write = _write_parquet if path.suffix.lower() == ".parquet" else _write_npy
        return write(answers, files, draft, size), size


def _write_parquet(answers: Iterable[dict[str, Any]], files: list[str], draft: Path, size: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids, answers, count = shortest_ids(files), iter(answers), 0
    schema = pa.schema([("id", pa.string()), ("file", pa.string()), ("embedding", pa.list_(pa.float32()))])
    with pq.ParquetWriter(draft, schema) as writer:
        while group := list(islice(answers, _GROUP)):
            names = [answer["file"] for answer in group]
            values = pa.array(np.concatenate([answer["embedding"] for answer in group]), pa.float32())
            vectors = pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)
            columns = [[stored(ids[name]) for name in names], [stored(name) for name in names], vectors]
            writer.write_table(pa.table(columns, schema=schema))
            count += len(group)
    return count


def _write_npy(answers: Iterable[dict[str, Any]], files: list[str], draft: Path, size: int) -> int:
    row_of = {file: row for row, file in enumerate(files)}
    table = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=(len(files), size))
    table[:] = np.nan
    count = 0
    for answer in answers:
        table[row_of[answer["file"]]] = answer["embedding"]
        count += 1
    table.flush()
    return count

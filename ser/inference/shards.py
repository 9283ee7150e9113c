"""Answers for a million files: a folder of Parquet shards that a stopped run continues.

The shards that exist say which files are done. A shard is named after the files it holds, so none overwrites another.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ser.files import draft_of, read_json, write_json
from ser.inference.output_formats import arrow_table, stored

# Files in a shard: some hundred seconds of work, which a stop can lose.
FILES_IN_SHARD = 1000
# A leading underscore keeps readers of Parquet folders from taking them for shards.
SETTINGS, LOCK = "_settings.json", "_lock"


def claim_shard_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder, or checks that its content comes from the same model with the same options.

    Raises:
        ValueError: Its content comes from another model or other options, or is something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if not path.exists():
        if any(not name.name.startswith((".", "_")) for name in folder.iterdir()):
            raise ValueError(f"--output: {folder} holds other files; give an empty or new folder.")
        write_json(settings, path)
        return
    found = read_json(path)
    for name in settings:
        if found.get(name) != settings[name]:
            raise ValueError(
                f"--output: {folder} holds answers with {name} {found.get(name)!r}, now it is {settings[name]!r}; "
                "give another folder."
            )


def files_in_shards(folder: Path) -> dict[str, str | None]:
    """The files in the shards of a folder, each with its error, or None."""
    import pyarrow.parquet as pq

    done: dict[str, str | None] = {}
    for shard in sorted(folder.glob("*.parquet")):
        table = pq.read_table(shard, columns=["file", "error"])
        done.update(zip(table["file"].to_pylist(), table["error"].to_pylist(), strict=True))
    return done


def write_shards(
    answers: Iterable[dict[str, Any]], columns: list[str], folder: Path, files_in_shard: int = FILES_IN_SHARD
) -> Iterator[dict[str, Any]]:
    """Writes every `files_in_shard` answers as one shard, then yields them.

    Args:
        answers: `{"file", "scores"}`, `{"file", "segments"}` or `{"file", "error"}`.
    """
    import pyarrow.parquet as pq

    answers = iter(answers)
    while shard := list(islice(answers, files_in_shard)):
        names = "\n".join(sorted(stored(answer["file"]) for answer in shard))
        path = folder / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.parquet"
        with draft_of(path) as draft:
            pq.write_table(arrow_table(shard, columns, with_errors=True), draft)
        yield from shard


def weights_hash(model: Any) -> str:
    """A hash of a model's weights and classes."""
    import torch

    digest = hashlib.sha256(json.dumps(model.config.id2label).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]

"""Why files of a corpus cannot be used, and which files of its folder were not used."""

import errno
import json
import logging
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ser.data.clips import counted, listed

if TYPE_CHECKING:
    from ser.data.corpora.recordings import Recording

logger = logging.getLogger(__name__)
_MISSING = "there is no such file"
_MOST_MISSING = 3


def write_problem(recording: "Recording", error: Exception, folder: Path) -> None:
    """Writes to `folder` why a recording cannot be used; the processes that read share no memory."""
    absent = isinstance(error, FileNotFoundError)
    reason = _MISSING if absent else str(error).removeprefix(f"{recording.path}: ")
    described = {"id": recording.id, "path": recording.path, "reason": reason}
    (folder / uuid.uuid4().hex).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")


def read_problems(folder: Path) -> list[dict[str, str]]:
    """Reads what [`write_problem`] wrote, sorted by path: id, path and reason of each recording."""
    return sorted((json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()), key=lambda n: n["path"])


def unusable(skipped: list[dict[str, str]], total: int, folders: Iterable[Path] = ()) -> str:
    """Lists the files that cannot be used, each with its reason; of missing files, the first three.

    Args:
        skipped: What [`read_problems`] read.
        total: How many files the corpus has.
        folders: Where missing files were looked for.
    """
    missing = [clip for clip in skipped if clip["reason"] == _MISSING]
    shown = [clip for clip in skipped if clip["reason"] != _MISSING] + missing[:_MOST_MISSING]
    lines = "".join(f"\n  {clip['path']}: {clip['reason']}" for clip in shown)
    if len(missing) > _MOST_MISSING:
        lines += f"\n  and {len(missing) - _MOST_MISSING} more: {_MISSING}"
    if missing and folders:
        lines += f"\n  Missing files were looked for in {listed(folders)}; see --data_dir."
    return f"{len(skipped)} of {total} files cannot be used:{lines}"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that no space is left; of another process only the text comes."""
    causes = []
    while error and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(
        getattr(cause, "errno", None) in full or any(os.strerror(number) in str(cause) for number in full)
        for cause in causes
    )


def tell_unused(names: Iterable[str], why: str) -> None:
    """Logs how many files were not used, with the first three.

    It is told whenever a corpus is listed and not kept with the prepared one, which other files in its folder would
    otherwise make anew.
    """
    names = sorted(names)
    if names:
        logger.warning("%s %s: %s", counted(len(names), "file"), why, listed(names, 3))

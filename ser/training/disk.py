"""A full disk, in words, whichever library met it."""

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

# Each library has its own error for it: Python, safetensors (Rust), torch (C++), pyarrow.
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = ("no space left on device", "disk quota exceeded", "code: 28", "pytorchstreamwriter failed writing")


def disk_full_words(error: BaseException, argv: Sequence[str] = ()) -> str | None:
    """One line for an error that a full disk caused; None for another error.

    Args:
        error: What was raised; its causes are looked at too.
        argv: The command line, which names the folder of the run.
    """
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        is_full = isinstance(found, OSError) and found.errno in _NUMBERS
        if is_full or any(text in str(found).lower() for text in _TEXTS):
            name = getattr(found, "filename", None)
            folder = Path(name).parent if name else _output_dir(argv)
            free = f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)" if folder and folder.exists() else ""
            where = folder or "the output folder or the cache"
            return f"the disk of {where} is full{free}. Free some space; the same command then goes on."
        found = found.__cause__ or found.__context__
    return None


def _output_dir(argv: Sequence[str]) -> Path | None:
    for index, token in enumerate(argv):
        if token.startswith("--output_dir="):
            return Path(token.split("=", 1)[1])
        if token == "--output_dir" and index + 1 < len(argv):
            return Path(argv[index + 1])
    return None

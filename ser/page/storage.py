"""The folder of a page: visitors' recordings, deleted by age, by size, and when the server ends."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_AGE_SECONDS = 3600.0
MAX_FILES = 1000
MAX_BYTES = 4_000_000_000
_PREFIX = "ser-page-"
# Uploads exceed the bounds for so long at most.
_PERIOD_SECONDS = 2.0
# Gradio makes a folder for each upload, and moves the upload there at once.
_EMPTY_SECONDS = 60.0


@contextmanager
def page_folder() -> Iterator[Path]:
    """Makes the folder of one server and keeps it small; it is deleted at the end, and at SIGTERM, SIGINT or SIGHUP.

    A signal raises `KeyboardInterrupt` in the main thread, for which Gradio closes its server. What a killed server
    left behind is deleted here first.
    """
    delete_leftovers(Path(tempfile.gettempdir()))
    done = threading.Event()
    before = {}
    if threading.current_thread() is threading.main_thread():
        names = [name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
        before = {name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in names}
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        threading.Thread(target=_keep_small, args=(Path(folder), done), daemon=True).start()
        try:
            yield Path(folder)
        finally:
            done.set()
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler or signal.SIG_DFL)


def delete_leftovers(parent: Path) -> None:
    """Deletes folders of this user's servers that no longer run; the name of a folder holds its process."""
    if os.name != "posix":  # elsewhere os.kill(pid, 0) ends the process
        return
    for folder in parent.glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError):
            is_own = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
            if process.isdigit() and is_own and not _is_running(int(process)):
                shutil.rmtree(folder, ignore_errors=True)


def shrink(folder: Path, now: float) -> None:
    """Deletes files older than `MAX_AGE_SECONDS`, the oldest beyond `MAX_FILES` or `MAX_BYTES`, and empty folders."""
    files = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # Gradio may delete a file meanwhile
            state = path.stat()
            if path.is_file():
                files.append((state.st_mtime, state.st_size, path))
            elif now - state.st_mtime > _EMPTY_SECONDS:
                path.rmdir()  # an error where it holds something
    count, size = 0, 0
    for modified, bytes_, path in sorted(files, reverse=True):
        count, size = count + 1, size + bytes_
        if now - modified > MAX_AGE_SECONDS or count > MAX_FILES or size > MAX_BYTES:
            path.unlink(missing_ok=True)


def _keep_small(folder: Path, done: threading.Event) -> None:
    while not done.wait(_PERIOD_SECONDS):
        shrink(folder, time.time())


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

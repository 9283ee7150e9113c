"""Copies a recording that is named by a URL, within a limit of size and, on the web, of time."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ser.inference.recordings import is_url
from ser.inference.remote import copy_remote, is_remote

MAX_MEGABYTES = 500.0
_MAX_SECONDS = 600.0
_SILENT_SECONDS = 30  # without a byte
_BLOCK_BYTES = 1 << 16


class _WebOnly(HTTPRedirectHandler):
    """Follows a redirect to the web only: a server must not name a file of this machine."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise ValueError(f"it redirects to {newurl}, which is not http or https; give the address itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def local_copy(source: str, max_megabytes: float = MAX_MEGABYTES) -> Iterator[str]:
    """Gives the path of a recording; one in a store or on the web is copied to a temporary file, deleted afterwards.

    Args:
        source: A path or a URL.
        max_megabytes: A larger download is stopped.

    Raises:
        ValueError: The download failed, is too large or takes too long. The message starts with the URL.
    """
    if not is_url(source) and not is_remote(source):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "audio")
        if source.startswith("file://"):
            path = source.removeprefix("file://")
        elif is_remote(source):
            with open(path, "wb") as file:
                copy_remote(source, file, max_megabytes)
        else:
            try:
                _download(source, path, max_megabytes)
            except (OSError, ValueError, HTTPException) as error:
                raise ValueError(f"{source}: cannot be downloaded ({error}).") from None
        try:
            yield path
        except (OSError, ValueError) as error:
            raise ValueError(f"{source}: {str(error).removeprefix(f'{path}: ')}") from error


def _download(url: str, path: str, max_megabytes: float) -> None:
    deadline, taken = time.monotonic() + _MAX_SECONDS, 0
    too_large = f"more than {max_megabytes:g} MB; raise --max-megabytes"
    with (
        build_opener(_WebOnly).open(Request(url, headers={"User-Agent": "ser"}), timeout=_SILENT_SECONDS) as answer,
        open(path, "wb") as file,
    ):
        if int(answer.headers.get("Content-Length") or 0) > max_megabytes * 1e6:
            raise ValueError(too_large)
        while block := answer.read1(_BLOCK_BYTES):
            taken += len(block)
            if taken > max_megabytes * 1e6:
                raise ValueError(too_large)
            if time.monotonic() > deadline:
                raise ValueError(f"it takes longer than {_MAX_SECONDS:.0f} s")
            file.write(block)
        if answer.length:  # read1 does not raise IncompleteRead
            raise ValueError(f"the connection ended {answer.length} bytes before the end of the file")

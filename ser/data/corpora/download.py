"""Downloads of files with a published size and hash: resumed where they stopped, and checked before use."""

import hashlib
import http.client
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        urls: Its addresses, the official one first.
        num_bytes: Its size.
        sha256: Its hash, in hexadecimal digits.
        is_zip: Whether it is a zip archive.
    """

    urls: tuple[str, ...]
    num_bytes: int
    sha256: str
    is_zip: bool = True


def download(file: Published, path: Path) -> Path:
    """Downloads a published file to `path`, from the first of its addresses that has it.

    A download that was stopped is continued; `path` itself is written only when size and hash are right.

    Raises:
        ConnectionError: No address has it, or offline mode is on; the message gives the reason for each address.
    """
    import datasets

    if datasets.config.HF_HUB_OFFLINE:
        raise ConnectionError(f"{path.name}: not downloaded, HF_HUB_OFFLINE=1 says to stay offline.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part, reasons = path.with_name(f"{path.name}.part"), []
    for url in file.urls:
        try:
            _fetch(url, part, file.num_bytes)
            check_published(part, file)
            return part.replace(path)
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {error}")
        except ValueError as error:
            reasons.append(f"{url}: {error}")
            # A file that was cut off is continued next time; anything else is removed.
            if part.stat().st_size >= file.num_bytes or (file.is_zip and not _is_zip(part)):
                part.unlink()
    raise ConnectionError(f"{path.name}: could not be downloaded.\n  " + "\n  ".join(reasons))


def check_published(path: Path, file: Published, with_hash: bool = True) -> None:
    """Checks a download and says what is wrong with it.

    Args:
        path: What was downloaded.
        file: What was published.
        with_hash: Also hash the whole file; without it, only its first bytes and its size are checked.

    Raises:
        ValueError: The file is a Git LFS pointer, not a zip, cut off, or has another hash than the published one; the
            message says which, and what to do.
    """
    num_bytes, url = path.stat().st_size, file.urls[0]
    with open(path, "rb") as opened:
        head = opened.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path}: is a Git LFS pointer ({num_bytes} bytes of text that stand for the file), not the file of "
            f"{file.num_bytes} bytes. Download {url}, or run 'git lfs pull' in the clone."
        )
    if file.is_zip and not _is_zip(path):
        raise ValueError(f"{path}: is not a zip file: it starts with {head[:20]!r}. Download {url}.")
    if num_bytes < file.num_bytes:
        raise ValueError(
            f"{path}: is cut off: it holds {num_bytes} of {file.num_bytes} bytes. Continue the download: "
            f"curl -L -C - -o {path.name} '{url}'"
        )
    sha256 = _sha256(path) if with_hash and num_bytes == file.num_bytes else None
    if num_bytes > file.num_bytes or sha256 not in (None, file.sha256):
        raise ValueError(
            f"{path}: is not the published file: {num_bytes} bytes, sha256 {sha256 or 'not computed'}; published are "
            f"{file.num_bytes} bytes, sha256 {file.sha256}. Download it again; to use a zip as it is, unpack it and "
            "give the folder."
        )


def _fetch(url: str, part: Path, num_bytes: int) -> None:
    """Downloads into `part`, and continues it where the server can."""
    from tqdm.auto import tqdm

    held = part.stat().st_size if part.exists() else 0
    if held >= num_bytes:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={held}-"} if held else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # our own addresses  # nosec B310
        goes_on = answer.status == 206
        bar = tqdm(total=num_bytes, initial=held if goes_on else 0, unit="B", unit_scale=True, desc=part.stem)
        with bar, open(part, "ab" if goes_on else "wb") as file:
            while block := answer.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
                if file.tell() > num_bytes:  # not the published file; a server may send without end
                    break


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()

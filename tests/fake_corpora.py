"""Corpora whose names and labels count and whose audio nobody reads, and a web server to download them from."""

import hashlib
import http.server
import threading
import zipfile
from contextlib import contextmanager

from ser.data.arguments import DataArguments
from ser.data.corpora import list_corpus
from ser.data.download import Published

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:663d8d7dceb44adb\nsize 374368830\n"


def touch(folder, *names):
    """Writes files whose names count and whose audio nobody reads."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def listed(corpus, data_dir=None, **options):
    return list_corpus(DataArguments(corpus=corpus, data_dir=data_dir and str(data_dir), **options))


def problems(corpus):
    return {recording.path: recording.problem for recording in corpus.recordings if recording.problem}


def archive_of(path, *names, **sounds):
    with zipfile.ZipFile(path, "w") as file:
        for name, sound in {**dict.fromkeys(names, b"sound" * 100), **sounds}.items():
            file.writestr(name, sound)
    return path.read_bytes()


def published(data, *urls):
    return Published(urls or ("https://example.org/female.zip?raw=true",), len(data), hashlib.sha256(data).hexdigest())


@contextmanager
def serving(files, ranges=True):
    """A web server of these files on this machine; yields its address and the list of what was asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data, start = files.get(self.path), 0
            asked.append((self.path, self.headers.get("Range")))
            if data is None:
                return self.send_error(404)
            if ranges and self.headers.get("Range"):
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            return self.wfile.write(data[start:])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()

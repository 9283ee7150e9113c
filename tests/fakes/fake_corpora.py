"""Small corpora to list, to prepare and to download from this machine."""

import hashlib
import http.server
import threading
import zipfile
from contextlib import contextmanager

import numpy as np
import soundfile

from data_prep import load_corpus
from ser.data.audio import clip_wave, undecoded
from ser.data.corpora.download import Published
from ser.data.corpora.table import list_corpus
from ser.data.data_arguments import DataArguments

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


def tone(seconds=0.2, rate_hz=16_000, pitch_hz=440.0, channels=1):
    """A sine, the same in every channel."""
    wave = 0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1)


def write_emodb(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        soundfile.write(folder / f"{name}.wav", tone(pitch_hz=200 + number), 16_000)
    return folder


def prepared(tmp_path, corpus="emodb", data_dir=None, **options):
    options = {"num_proc": 1, "cache_dir": str(tmp_path / "cache"), **options}
    return load_corpus(DataArguments(corpus=corpus, data_dir=data_dir and str(data_dir), **options))


def waves(dataset):
    return {row["id"]: clip_wave(row) for row in undecoded(dataset)}

"""What the page keeps of its visitors, how much, and when it is deleted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.tiny import noise, tiny_model

from ser.inference.loading import load_pipeline
from ser.page import storage
from ser.page.answer import Limits, classify
from ser.page.app import read_auth, serve
from ser.page.html import error_html, limits_html

ROOT = Path(__file__).parents[2]
WAITER = """
import time
from ser.page.storage import page_folder
with page_folder() as folder:
    (folder / "voice.wav").write_text("a voice")
    try:
        print(folder, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""


def waiting(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITER], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_no_recording_is_left_after_a_signal(tmp_path, name):
    process, folder = waiting(tmp_path)
    assert (folder / "voice.wav").is_file()
    process.send_signal(getattr(signal, name))
    assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_next_server_deletes_what_a_killed_one_left_and_nothing_else(tmp_path):
    process, killed = waiting(tmp_path)
    process.kill()
    process.wait(20)
    running = tmp_path / f"ser-page-{os.getpid()}-x"
    others = [running, tmp_path / "ser-page-notes", tmp_path / "else"]
    for folder in others:
        folder.mkdir()
    assert killed.is_dir()
    storage.delete_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_old_uploads_go_and_number_and_size_are_bounded(tmp_path, monkeypatch):
    now = time.time()
    for age in range(5):
        path = tmp_path / str(age) / "clip.wav"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (now - 1000 * age, now - 1000 * age))

    def left():
        storage.shrink(tmp_path, now)
        return sorted(path.parent.name for path in tmp_path.rglob("*.wav"))

    assert left() == ["0", "1", "2", "3"]
    monkeypatch.setattr(storage, "MAX_BYTES", 300)
    assert left() == ["0", "1", "2"]
    monkeypatch.setattr(storage, "MAX_FILES", 1)
    assert left() == ["0"]


def test_the_folder_of_a_deleted_upload_goes_too_and_that_of_one_on_its_way_stays(tmp_path):
    now = time.time()
    for name, age in (("old", 100), ("new", 1)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (now - age, now - age))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "clip.wav").write_bytes(bytes(100))
    os.utime(tmp_path / "used", (now - 100, now - 100))
    storage.shrink(tmp_path, now)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "used"]


def test_a_recording_beyond_the_limit_is_refused_in_both_languages(tmp_path):
    import soundfile

    pipe = load_pipeline(str(tiny_model(tmp_path / "model")), "cpu")
    path = tmp_path / "long.wav"
    soundfile.write(path, noise(4.0), 16_000)
    with pytest.raises(ValueError, match="is longer than 3 s") as error:
        classify(pipe, path, Limits(minutes=0.05))
    assert classify(pipe, path, Limits(minutes=0.1)).seconds == pytest.approx(4.0, abs=0.02)
    html = error_html(path.name, str(error.value))
    assert "is longer than" in html
    assert "طولانی‌تر از حد مجاز" in html
    assert "<bdi>۷</bdi> دقیقه" in limits_html({}, "x", Limits(7, 33), 20)
    assert "up to 33 seconds" in limits_html({}, "x", Limits(7, 33), 20).replace("<bdi>", "").replace("</bdi>", "")


@pytest.mark.parametrize("text", ["", "user", ":password", "user:"])
def test_a_password_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "auth").write_text(text)
    with pytest.raises(ValueError, match="expected user:password"):
        read_auth(tmp_path / "auth")


def test_the_password_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "auth").write_text("ann:se:cret\n")
    assert read_auth(tmp_path / "auth") == ("ann", "se:cret")
    monkeypatch.delenv("SER_PAGE_AUTH", raising=False)
    assert read_auth(None) is None
    monkeypatch.setenv("SER_PAGE_AUTH", "bob:word")
    assert read_auth(None) == ("bob", "word")


@pytest.mark.parametrize(
    ("launch", "warned"),
    [
        ({"server_name": "0.0.0.0"}, True),
        ({"share": True}, True),
        ({"server_name": "0.0.0.0", "auth": ("a", "b")}, False),
        ({"server_name": "127.0.0.1"}, False),
    ],
)
def test_a_page_that_others_reach_without_a_password_is_warned_of(monkeypatch, capsys, launch, warned):
    class Page:
        def queue(self, max_size):
            return self

        def launch(self, **given):
            pass

    monkeypatch.setattr("ser.page.app.make_page", lambda *_: Page())
    monkeypatch.setattr("ser.page.app.Decoder.start", lambda self: None)
    monkeypatch.setattr("ser.page.app._end_scoring", lambda pipe, decoder: None)
    monkeypatch.setattr("ser.page.app.look", dict)
    serve(None, "model", **launch)
    assert ("without a password" in capsys.readouterr().err) is warned

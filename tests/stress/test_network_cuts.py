"""The network is cut at every request of a push in turn: that is tried again or told, and the Hub is never half new."""

import itertools
import time
from pathlib import Path

import pytest
from fakes.loopback_hub import LoopbackHub, talk_to

from ser.publish.hub import commit_folder

REPO = "user/emo"
# Before the Hub reads the request, or after it did what was asked, whose answer is lost.
CUTS = ("cut", "cut after")


class CutHub(LoopbackHub):
    """A Hub whose connection is cut at a request by its number, once or from there on."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.how, self.count = 0, -1, "cut", 0

    def fault_of(self, route: str) -> int | str | None:
        super().fault_of(route)
        with self.lock:
            self.count += 1
            return self.how if self.first <= self.count <= self.last else None

    def cut(self, first: int, last: int, how: str) -> None:
        self.first, self.last, self.how, self.count = first, last, how, 0


def folder_of(tmp_path: Path, name: str, content: bytes) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "results.json").write_text(f'{{"run": "{name}"}}')
    (folder / "model.safetensors").write_bytes(content)
    return folder


def pushed(folder: Path) -> str | None:
    """None, or the one line that says what went wrong."""
    try:
        commit_folder(folder, REPO, "model")
    except OSError as error:
        return str(error)
    return None


@pytest.fixture
def hub(monkeypatch):
    with CutHub() as hub:
        talk_to(hub, monkeypatch)
        yield hub


@pytest.mark.parametrize(
    ("replaces", "cuts", "lasts"),
    [
        pytest.param(False, CUTS[:1], (0,), id="some", marks=pytest.mark.heavy),
        pytest.param(False, CUTS, (0, 10_000), id="new", marks=pytest.mark.stress),
        pytest.param(True, CUTS, (0, 10_000), id="replaced", marks=pytest.mark.stress),
    ],
)
def test_a_push_cut_at_any_request_is_tried_again_or_told_and_the_hub_is_never_half_new(
    hub, tmp_path, replaces, cuts, lasts, figure
):
    old, new = folder_of(tmp_path, "old", bytes(500)), folder_of(tmp_path, "new", bytes(range(250)) * 8)
    states = {name: {p.name: p.read_bytes() for p in folder.iterdir()} for name, folder in (("old", old), ("new", new))}

    def start() -> dict[str, bytes]:
        hub.repos.clear()
        hub.blobs.clear()
        hub.cut(0, -1, "cut")
        if replaces:
            assert pushed(old) is None
        hub.count = 0
        return hub.files(REPO)

    before = start()
    assert pushed(new) is None
    total, began, tried, silent, told = hub.count, time.perf_counter(), 0, 0, 0
    assert total > 5
    for how, first, last in itertools.product(cuts, range(1, total + 1), lasts):
        start()
        hub.cut(first, max(first, last), how)
        error = pushed(new)
        tried, silent, told = tried + 1, silent + (error is None), told + (error is not None)
        assert hub.files(REPO) in (before, states["new"])
        if error is None:
            assert hub.files(REPO) == states["new"]
        else:
            assert "\n" not in error
        hub.cut(0, -1, "cut")
        assert pushed(new) is None
        assert hub.files(REPO) == states["new"]
    figure(f"pushes cut at each of {total} requests", tried, silent, told, time.perf_counter() - began)
    assert silent
    assert told

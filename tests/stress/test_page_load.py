"""Many visitors at once on `ser serve`: each is answered or told to wait, and memory stays flat.

`make stress` runs a small crowd, and 50 visitors for a minute.
"""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes.made_run import make_run
from fakes.tiny import noise

ROOT = Path(__file__).parents[2]
MB = 2**20


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Serves a run of random weights; gives the address of its API and the id of its process."""
    run = make_run(folder / "made").folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ser", "serve", "--model", str(run), "--port", str(port)]
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/", server)
        yield f"http://127.0.0.1:{port}/gradio_api", server.pid
    finally:
        server.terminate()
        assert server.wait(60) == 0, (folder / "log").read_text()
    assert [path for path in temporary.rglob("*") if path.suffix in (".wav", ".flac")] == []


def _wait_for(address: str, server: subprocess.Popen) -> None:
    import httpx

    for _ in range(240):
        assert server.poll() is None, "ser serve ended"
        try:
            httpx.get(address, timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail("ser serve did not start")


def visit(address: str, clip: Path, end: float) -> list[tuple[str, float]]:
    """Sends one recording after another; gives what came of each, and the seconds it took."""
    import httpx

    outcomes = []
    with httpx.Client(timeout=120) as client:
        while time.monotonic() < end:
            start = time.monotonic()
            try:
                outcome = _ask(client, address, clip)
            except (httpx.HTTPError, KeyError, IndexError) as error:
                outcome = f"failed: {type(error).__name__}: {error}"
            outcomes.append((outcome, time.monotonic() - start))
            if outcome == "told to wait":
                time.sleep(1.0)
    return outcomes


def _ask(client, address: str, clip: Path) -> str:
    with open(clip, "rb") as file:
        uploaded = client.post(f"{address}/upload", files={"files": (clip.name, file)}).json()[0]
    data = [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}]
    asked = client.post(f"{address}/call/classify", json={"data": data})
    if asked.status_code == 503 and "Queue is full" in asked.text:
        return "told to wait"
    answer = client.get(f"{address}/call/classify/{asked.json()['event_id']}").text
    is_answer = "event: complete" in answer and "ser-answer" in answer and clip.name in answer
    return "answered" if is_answer else f"failed: {asked.status_code} {answer[:200]}"


def resident_bytes(process: int) -> int:
    """Memory of a process and its children."""
    found = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if process in (int(fields["Pid"]), int(fields["PPid"])) and "VmRSS" in fields:
            found += 1024 * int(fields["VmRSS"].split()[0])
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("visitors", "seconds"),
    [pytest.param(6, 10, marks=pytest.mark.stress), pytest.param(50, 60, marks=pytest.mark.stress)],
)
def test_a_crowd_is_answered_or_told_to_wait_and_memory_stays_flat(tmp_path, visitors, seconds, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    clips = []
    for index in range(visitors):
        length = 1.0 + 11.0 * (index % 5 == 4) + index / visitors  # one in five is long enough for a timeline
        clips.append(tmp_path / f"clip{index}.wav")
        soundfile.write(clips[-1], np.tile(noise(1.0, index), 14)[: int(16_000 * length)], 16_000)
    memory = []
    with served(tmp_path) as (address, process), ThreadPoolExecutor(visitors) as pool:
        visit(address, clips[-1], time.monotonic() + 1)  # what is loaded at the first answer is not counted
        end = time.monotonic() + seconds
        visits = [pool.submit(visit, address, clip, end) for clip in clips]
        while time.monotonic() < end:
            memory.append(resident_bytes(process))
            time.sleep(1.0)
        outcomes = [outcome for done in visits for outcome in done.result()]
    counts = Counter(outcome for outcome, _ in outcomes)
    waits = sorted(taken for outcome, taken in outcomes if outcome == "answered")
    third = len(memory) // 3
    early, late = (np.median(part) / MB for part in (memory[third : 2 * third], memory[2 * third :]))
    with capsys.disabled():
        print(
            f"\n{visitors} visitors, {seconds} s: {dict(counts)}; answer after {np.median(waits):.1f} s, at most "
            f"{waits[-1]:.1f} s; MB at first {memory[0] / MB:.0f}, in the middle {early:.0f}, at the end {late:.0f}"
        )
    assert set(counts) <= {"answered", "told to wait"}
    assert counts["answered"] >= visitors
    assert late < 1.05 * early + 20

"""Many visitors at once on `ser serve`: each is answered or told to wait, and memory stays flat.

`make stress` runs a small crowd, and 50 visitors for a minute.
"""

import io
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


def visit(address: str, visitor: int, end: float) -> list[tuple[str, float]]:
    """Sends one recording after another, each with a sound and a length of its own; gives what came of each, and when.

    Returns:
        Outcome of each recording, and the seconds it took.
    """
    import httpx

    outcomes, generator = [], np.random.default_rng(visitor)
    sound = np.tile(noise(1.0, visitor), 14)
    with httpx.Client(timeout=120) as client:
        while time.monotonic() < end:
            longest = 13.0 if visitor % 5 == 4 else 2.0  # one in five is long enough for a timeline
            recording = wav(sound[: int(16_000 * (longest - generator.uniform(0.0, 1.0)))])
            start = time.monotonic()
            try:
                outcome = _ask(client, address, f"clip{visitor}.wav", recording)
            except (httpx.HTTPError, KeyError, IndexError) as error:
                outcome = f"failed: {type(error).__name__}: {error}"
            outcomes.append((outcome, time.monotonic() - start))
            if outcome == "told to wait":
                time.sleep(1.0)
    return outcomes


def wav(wave: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="WAV")
    return buffer.getvalue()


def _ask(client, address: str, name: str, recording: bytes) -> str:
    uploaded = client.post(f"{address}/upload", files={"files": (name, recording)}).json()[0]
    data = [{"path": uploaded, "meta": {"_type": "gradio.FileData"}}]
    asked = client.post(f"{address}/call/classify", json={"data": data})
    if asked.status_code == 503 and "Queue is full" in asked.text:
        return "told to wait"
    answer = client.get(f"{address}/call/classify/{asked.json()['event_id']}").text
    is_answer = "event: complete" in answer and "ser-answer" in answer and name in answer
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


def crowd(folder: Path, visitors: int, seconds: float) -> tuple[list[tuple[str, float]], np.ndarray]:
    """Lets visitors use one page at the same time.

    Returns:
        Outcome and seconds of each recording, and the server's memory in MB, a value a second.
    """
    memory = []
    with served(folder) as (address, process), ThreadPoolExecutor(visitors) as pool:
        visit(address, 4, time.monotonic() + 1)  # what is loaded at the first answer is not counted
        end = time.monotonic() + seconds
        visits = [pool.submit(visit, address, visitor, end) for visitor in range(visitors)]
        while time.monotonic() < end:
            memory.append(resident_bytes(process) / MB)
            time.sleep(1.0)
        return [outcome for done in visits for outcome in done.result()], np.array(memory)


def said(visitors: int, seconds: float, outcomes: list[tuple[str, float]], memory: np.ndarray) -> str:
    """A line of figures: outcomes, times, and the median memory of ten parts of the time."""
    waits = [taken for outcome, taken in outcomes if outcome == "answered"]
    parts = " ".join(f"{np.median(part):.0f}" for part in np.array_split(memory, 10))
    return (
        f"\n{visitors} visitors, {seconds} s: {dict(Counter(outcome for outcome, _ in outcomes))}; answer after "
        f"{np.median(waits):.1f} s, at most {max(waits):.1f} s; MB at first {memory[0]:.0f}, then {parts}"
    )


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("visitors", "seconds"), [(6, 10), (50, 60), (50, 600)])
def test_a_crowd_is_answered_or_told_to_wait_and_memory_stays_flat(tmp_path, visitors, seconds, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ser[serve]'")
    outcomes, memory = crowd(tmp_path, visitors, seconds)
    with capsys.disabled():
        print(said(visitors, seconds, outcomes, memory))
    counts = Counter(outcome for outcome, _ in outcomes)
    assert set(counts) <= {"answered", "told to wait"}
    assert counts["answered"] >= visitors
    third = len(memory) // 3
    early, late = (np.median(part) for part in (memory[third : 2 * third], memory[2 * third :]))
    assert late < 1.05 * early + 20

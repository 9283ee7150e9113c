"""Long-lived child processes that are asked one line at a time, and replaced when they crash or hang."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 300


class Child:
    """One process of a program that says "ready" and then answers each line of its stdin with a line of JSON."""

    def __init__(self, program: str, arguments: Sequence[str]):
        self.command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
        self.process: subprocess.Popen | None = None

    def ask(self, line: str, seconds: float) -> dict[str, Any]:
        """The answer to a line; `{"crash": signal or code}` or `{"waits": seconds}` if there is none.

        Args:
            seconds: How long to wait for it. On a busy machine even a quick answer waits for a core: what a child may
                compute, it limits itself (`RLIMIT_CPU`, whose end is a crash by SIGXCPU).
        """
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(f"{line}\n".encode())
            answer = self._line(seconds)
        except BrokenPipeError:  # it ended after its last answer
            answer = b""
        if answer:
            return json.loads(answer)
        code = self.end()
        return {"waits": seconds} if answer is None else {"crash": signal.Signals(-code).name if code < 0 else code}

    def end(self) -> int | None:
        """Ends the process, if there is one, and gives its exit code."""
        if self.process is None:
            return None
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        process, self.process = self.process, None
        return process.wait()

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, bufsize=0
        )
        assert self._line(START_SECONDS) == b"ready\n", f"{' '.join(self.command)} does not start"

    def _line(self, seconds: float) -> bytes | None:
        """The next line; None if none comes in time, empty if the process has ended."""
        is_there, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline() if is_there else None


def ask_all(lines: Sequence[str], children: Sequence[Child], seconds: float) -> list[dict[str, Any]]:
    """The answers to all lines, in their order; the children work side by side."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(lines)):
        waiting.put(index)
    answers: list[dict[str, Any]] = [{}] * len(lines)

    def work(child: Child) -> None:
        try:
            while True:
                index = waiting.get_nowait()
                answers[index] = child.ask(lines[index], seconds)
        except Empty:
            return
        finally:
            child.end()

    with ThreadPoolExecutor(len(children)) as pool:
        for done in [pool.submit(work, child) for child in children]:
            done.result()
    return answers

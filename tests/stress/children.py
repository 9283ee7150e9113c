"""Long-lived child processes that are asked one line at a time, and replaced when they crash or hang."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
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
        """The answer to a line; `{"crash": ...}` or `{"hang": seconds}` if there is none."""
        if self.process is None:
            self._start()
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        answer = self._line(seconds)
        if answer:
            return json.loads(answer)
        self.end()
        return {"hang": seconds} if answer is None else {"crash": self.exit_code}

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.exit_code = self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

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
            child.end()

    threads = [threading.Thread(target=work, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers

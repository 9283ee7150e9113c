"""Decodes a visitor's recording in a process of its own, which is killed when it takes too long.

A thread that hangs within a decoder cannot be stopped, and would hold the one queue of the page for ever.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ser.data.audio import pcm_16

# The process imports the model's file once, and torch with it.
_STARTING_SECONDS = 300.0


class Decoder:
    """A process that decodes one recording after another, and is started again after one that it did not survive.

    The process ends with this one.

    Attributes:
        in_use: Held by the thread that decodes; there may be one at a time.
    """

    def __init__(self) -> None:
        self.in_use = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._is_closed = False

    def start(self) -> subprocess.Popen:
        """Starts the process without waiting for it.

        Raises:
            ValueError: The decoder was closed.
        """
        if self._is_closed:
            raise ValueError("The page is closing.")
        if self._process is None or self._process.poll() is not None:
            # The paths of this process: the package may be a checkout that is not installed.
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ser.page.decoding"],  # -P: nothing of the working directory
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,  # a signal to the server is not one to this process
            )
            self._is_ready = False
        return self._process

    def close(self) -> None:
        """Ends the process for good; who waits for it gets an error."""
        self._is_closed = True
        if self._process is not None:
            _kill(self._process)

    def wait(self) -> subprocess.Popen:
        """Waits until the process is ready, and returns it.

        Raises:
            ValueError: It did not start.
        """
        process = self.start()
        if not self._is_ready:
            self._answer(process, _STARTING_SECONDS, "The decoder did not start.")
            self._is_ready = True
        return process

    def decode(self, path: Path, sound: Path, rate_hz: int, max_minutes: float, max_seconds: float) -> np.ndarray:
        """Writes a recording as FLAC; the arguments and errors of `decode`, within a time limit.

        Args:
            max_seconds: How long this may take.

        Raises:
            ValueError: It took longer, or the decoder broke down.
        """
        process = self.wait()
        job = {"path": str(path), "sound": str(sound), "rate_hz": rate_hz, "max_minutes": max_minutes}
        print(json.dumps(job), file=process.stdin, flush=True)
        answer = self._answer(process, max_seconds, f"took longer than {max_seconds:g} s to decode; convert it to WAV.")
        if answer.get("problem"):
            raise ValueError(answer["problem"])
        return np.array(answer["peaks"], np.float32)

    def _answer(self, process: subprocess.Popen, seconds: float, too_late: str) -> dict:
        late = threading.Event()

        def kill() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(seconds, kill)
        timer.start()
        line = process.stdout.readline() if process.stdout else ""
        timer.cancel()
        if line.endswith("\n"):
            return json.loads(line)
        _kill(process)
        self.start()  # for the next visitor
        raise ValueError(too_late if late.is_set() else "broke the decoder; convert it to WAV.")


def _kill(process: subprocess.Popen) -> None:
    """Kills the decoder, and ffmpeg where it runs that."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def decode(path: Path, sound: Path, rate_hz: int, max_minutes: float) -> np.ndarray:
    """Writes a recording of any format as a FLAC file of 16 bits.

    Args:
        path: The recording.
        sound: The file to write.
        rate_hz: Its sampling rate.
        max_minutes: A longer recording is refused, before all of it is decoded.

    Returns:
        The largest absolute sample of every 10 ms.

    Raises:
        ValueError, OSError: It cannot be read, or is longer.
    """
    from ser_model import read_blocks

    blocks = read_blocks(path, str(sound), rate_hz, max_seconds=60 * max_minutes)
    return _write_sound(blocks, sound, rate_hz)


def _write_sound(blocks: Iterable[np.ndarray], path: Path, rate_hz: int) -> np.ndarray:
    import soundfile

    from ser.files import draft_of

    frame, peaks, rest = rate_hz // 100, [], np.zeros(0, np.float32)
    with draft_of(path) as draft, soundfile.SoundFile(draft, "w", rate_hz, 1, "PCM_16", format="FLAC") as file:
        for block in blocks:
            # As integers: a float would be scaled by 32767 on its way, and read back as another.
            file.write(pcm_16(block))
            rest = np.concatenate([rest, np.abs(block)])
            whole = len(rest) // frame * frame
            peaks.append(rest[:whole].reshape(-1, frame).max(axis=1))
            rest = rest[whole:]
    return np.concatenate([*peaks, [rest.max() if len(rest) else 0.0]])


def _main() -> None:
    """Reads a job a line, and answers each with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import ser_model  # noqa: F401  slow, and therefore before the first job

    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            peaks = decode(Path(job["path"]), Path(job["sound"]), job["rate_hz"], job["max_minutes"])
            answer = {"peaks": np.round(peaks, 4).tolist()}
        except (OSError, ValueError) as error:
            answer = {"problem": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main()

"""What a run does when it is told to stop: SIGTERM and SIGHUP of a cluster, SIGINT of the keyboard."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("SIGTERM", "SIGHUP", "SIGINT")


class Stopped(BaseException):
    """A signal ended the run in order. No `except Exception` of a library may swallow it.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int, saved: str | None = None):
        where = f" at {saved}" if saved else ""
        super().__init__(f"stopped by {signal.Signals(number).name}{where}; the same command goes on from there.")
        self.number = number


class _State:
    process: int | None = None
    received: int | None = None
    trains = False


def received() -> int | None:
    """The signal that came while training steps were made; None if none came."""
    return _State.received


def _handle(number: int, frame: object) -> None:
    # A forked worker (of a DataLoader, of a corpus that is prepared) has this handler too; its parent ends it so.
    is_worker = os.getpid() != _State.process
    if is_worker or _State.received is not None:  # the second one: at once
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    _State.received = number
    if not _State.trains:
        raise Stopped(number)


@contextmanager
def stop_in_order() -> Iterator[None]:
    """Within the block, the first signal raises [`Stopped`], during training after the step; a second one kills.

    A signal that the process ignores, as SIGHUP under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    _State.process, _State.received, _State.trains = os.getpid(), None, False
    try:
        for number in numbers:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, _handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def training_steps() -> Iterator[None]:
    """Within the block a signal waits until [`received`] is looked at; one that nobody looked at counts at its end."""
    _State.trains = True
    try:
        yield
    finally:
        _State.trains = False
    if _State.received is not None:
        raise Stopped(_State.received)

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
    handled: tuple[int, ...] = ()
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


def _lift_for_fork() -> None:
    """Gives a worker that is forked now the default handlers.

    Python forgets a signal that reaches a new process before it runs: a pool that ends such a worker by SIGTERM would
    wait for it for ever. The signals are blocked meanwhile, so that the run itself loses none.
    """
    if _State.handled and threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, _State.handled)
        for number in _State.handled:
            signal.signal(number, signal.SIG_DFL)


def _handle_again() -> None:
    if _State.handled and threading.current_thread() is threading.main_thread():
        for number in _State.handled:
            signal.signal(number, _handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _State.handled)


def _stay_default() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _State.handled)
    _State.handled = ()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lift_for_fork, after_in_parent=_handle_again, after_in_child=_stay_default)


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
        _State.handled = tuple(number for number in numbers if before[number] is not signal.SIG_IGN)
        for number in _State.handled:
            signal.signal(number, _handle)
        yield
    finally:
        _State.handled, _State.received = (), None  # what comes after, in the same process, was not told to stop
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

"""Imports without garbage collection: nothing that is imported becomes garbage.

To look through torch and transformers for garbage costs half a second while they are imported, and one second more
when Python ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def before_imports() -> None:
    """Turns garbage collection off."""
    gc.disable()


def after_imports() -> None:
    """Turns garbage collection on again; what is there the first time is never looked through."""
    if not gc.get_freeze_count():
        gc.freeze()
    gc.enable()


@contextmanager
def quick_imports() -> Iterator[None]:
    """A block of imports without garbage collection; how it was set before holds again behind the block."""
    was_on = gc.isenabled()
    before_imports()
    try:
        yield
    finally:
        after_imports()
        if not was_on:
            gc.disable()

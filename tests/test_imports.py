import gc
import subprocess
import sys

from ser.imports import quick_imports

SCRIPT = """
import gc
from ser.imports import quick_imports
with quick_imports():
    assert not gc.isenabled()
    import json
assert gc.isenabled()
frozen = gc.get_freeze_count()
with quick_imports():
    kept = [[] for _ in range(10_000)]
print(frozen, gc.get_freeze_count())
"""


def test_what_is_imported_is_left_out_of_garbage_collection_and_what_comes_later_is_not():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert 1000 < second <= first


def test_garbage_collection_that_was_off_stays_off():
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

"""Memory that was freed is used again, not asked for anew."""

import platform
import subprocess
import sys

import pytest

BATCHES = """
import resource
import threading
import torch
from ser.freed_memory import keep_freed_memory

if {keep}:
    keep_freed_memory()


def batches():
    for _ in range(20):
        torch.ones(2**25)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**25)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


if {in_thread}:
    thread = threading.Thread(target=batches)
    thread.start()
    thread.join()
else:
    batches()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
@pytest.mark.parametrize("in_thread", [False, True])
def test_tensors_of_the_next_batch_take_the_pages_of_the_last_one(in_thread):
    faults = {}
    for keep in (True, False):
        code = BATCHES.format(keep=keep, in_thread=in_thread)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        faults[keep] = int(done.stdout)
    # 20 tensors of 128 MB are 640,000 pages of 4 kB
    assert faults[False] > 100 * max(1, faults[True])

"""Memory that was freed is used again, not asked for anew."""

import platform
import subprocess
import sys

import pytest

BATCHES = """
import resource
import torch
from ser.freed_memory import keep_freed_memory

if {keep}:
    keep_freed_memory()
for _ in range(20):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_tensors_of_the_next_batch_take_the_pages_of_the_last_one():
    faults = {}
    for keep in (True, False):
        done = subprocess.run([sys.executable, "-c", BATCHES.format(keep=keep)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        faults[keep] = int(done.stdout)
    # 20 tensors of 64 MB are 320,000 pages of 4 kB
    assert faults[False] > 100 * max(1, faults[True])

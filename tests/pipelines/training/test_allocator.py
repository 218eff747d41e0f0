import resource
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from pipelines.training.allocator import keep_freed_memory
kept = keep_freed_memory() if {keep} else True
for _ in range(30):
    torch.ones(9_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(9_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_taken_again_without_page_faults():
    counts = {}
    for keep in (True, False):
        run = [sys.executable, "-c", STEPS.format(keep=keep)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        kept, faults = done.stdout.split()
        assert kept == "True"
        counts[keep] = int(faults)
    pages = 10 * 36_000_000 // resource.getpagesize()
    assert counts[True] < pages / 4
    assert counts[False] > pages * 3 / 4

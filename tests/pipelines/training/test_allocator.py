import resource
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from ratchet.pipelines.training.allocator import keep_freed_memory
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


HOLES = """
import psutil, torch
from ratchet.pipelines.training.allocator import give_freed_memory_back, keep_freed_memory
keep_freed_memory()
blocks = [torch.ones(1_000_000) for _ in range(60)]
stay = blocks[::10]
del blocks
before = psutil.Process().memory_info().rss
print(give_freed_memory_back(), before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_what_lies_free_between_what_stays_is_handed_back_when_asked():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    given, freed = done.stdout.split()
    assert given == "True"
    assert int(freed) > 54 * 4_000_000 * 0.9

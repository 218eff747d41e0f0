import subprocess
import sys

import pytest

SHADOWED = ("queue", "statistics", "torch")
PROGRAM = f"""
import os, sys
sys.path.remove("")  # the program itself is not what is looked at
import ray
from ratchet.pipelines.spec.update_spec import ScalingSpec
from ratchet.pipelines.update.ray_session import ray_session


@ray.remote
def look():
    import {", ".join(SHADOWED)}
    return os.getcwd() in [os.path.realpath(folder) for folder in sys.path]


with ray_session(ScalingSpec(num_workers=1), None):
    print(ray.get(look.remote()))
"""


@pytest.mark.slow
def test_workers_do_not_look_for_modules_where_the_program_runs(tmp_path):
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text("raise ImportError('foreign')", encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr

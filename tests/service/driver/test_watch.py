import signal
import subprocess
import sys
import time

import pytest

from ratchet.service.driver.job_folder import JobFolder

WATCHED = """
import sys, time
from pathlib import Path
from ratchet.service.driver import watch
from ratchet.service.driver.job_folder import JobFolder

watch.BEAT_SECONDS = 0.05
folder = JobFolder(Path(sys.argv[1]))
watch.Watch(folder, 1, False, print).start()
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["heartbeat", "attempt.json"])
def test_a_folder_that_fails_is_told_of_once_and_the_driver_can_still_be_stopped(tmp_path, name):
    JobFolder(tmp_path).write_fence(1)
    (tmp_path / name).unlink(missing_ok=True)
    # Nothing can be read or made behind a link to itself, not even by root.
    (tmp_path / name).symlink_to(tmp_path / name)
    command = [sys.executable, "-c", WATCHED, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as driver:
        assert driver.stdout.readline() == "begun\n"
        time.sleep(0.5)
        assert driver.poll() is None
        driver.send_signal(signal.SIGTERM)
        out, err = driver.communicate(timeout=20)
    assert driver.returncode == 0
    assert out in ("", "asked to stop\n")  # ended at once: what is printed may be lost
    assert err.count("\n") == 1
    assert "goes on without the job's folder" in err

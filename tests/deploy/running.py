"""The API as a container runs it: a process with variables, and no more."""

import contextlib
import os
import subprocess
import sys

from tests.waiting import free_port, wait_for_url


@contextlib.contextmanager
def running_api(folder):
    """Start the API on a free port with a home of its own; give its address, end it."""
    port = free_port()
    variables = {
        "RATCHET_HOME": str(folder / "home"),
        "RATCHET_API_HOST": "127.0.0.1",
        "RATCHET_API_PORT": str(port),
        "RATCHET_LAUNCHER": "process",
    }
    with (folder / "api.log").open("wb") as log:
        command = [sys.executable, "-m", "ratchet.service.api"]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
    try:
        wait_for_url(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)

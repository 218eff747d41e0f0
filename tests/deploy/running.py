"""The API as a container runs it: a process with variables, and no more."""

import contextlib
import os
import subprocess
import sys
import time

import httpx

from tests.s3_server import free_port

PATIENCE_SECONDS = 120


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
        command = [sys.executable, "-m", "service.api"]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/healthz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(url, process):
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the API ended early with {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the API did not answer within {PATIENCE_SECONDS} s")

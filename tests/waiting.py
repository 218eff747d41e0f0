"""Waiting for what other processes do."""

import contextlib
import time

import httpx

from ratchet.service.up.layout import free_port

__all__ = ["free_port", "wait_for", "wait_for_url"]

PATIENCE_SECONDS = 300.0


def wait_for(condition, process=None, seconds=PATIENCE_SECONDS):
    """Look again and again until a condition gives something, and return it.

    Args:
        condition: What is looked at.
        process: Whose early end is the end of the waiting, or None.
        seconds: How long to look.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        assert process is None or process.poll() is None, f"ended early with {process.returncode}"
        time.sleep(0.02)
    raise AssertionError(f"not so within {seconds:g} s")


def wait_for_url(url, process=None, seconds=PATIENCE_SECONDS):
    """Wait until a server answers that all is well."""

    def is_well():
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).is_success:
                return True
        time.sleep(0.1)
        return False

    wait_for(is_well, process, seconds)

#!/usr/bin/env python3
"""Whether the part of Ratchet that runs in this container works: exit code 0, or 1 and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 8
API = os.environ.get("RATCHET_HEALTH_API", "http://127.0.0.1:8080")
ROUTER = os.environ.get("RATCHET_HEALTH_ROUTER", "http://127.0.0.1:8000")


def main() -> int:
    """Ask the part what it was started as."""
    place = Path(os.environ.get("RATCHET_ROLE_FILE", "/tmp/ratchet-role"))
    role = place.read_text(encoding="utf-8") if place.is_file() else "api"
    if role == "api":
        return _answers(f"{API}/healthz")
    if role == "router":
        return _answers(f"{ROUTER}/healthz")
    if role == "controller":  # it listens nowhere; the API knows whether it holds its lease
        return _answers(f"{API}/readyz", "controller")
    if role in ("ray-head", "ray-worker"):
        address = os.environ.get("RAY_HEAD", "127.0.0.1:6379")
        command = ["ray", "health-check", "--address", address]
        return subprocess.run(command, timeout=SECONDS, check=False).returncode
    return 0


def _answers(url: str, field: str | None = None) -> int:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:  # 503 of /readyz says in its body what is missing
        body = error.read()
        if field is None:
            return _failed(f"{url} answered {error.code}")
    except OSError as error:
        return _failed(f"{url}: {error}")
    if field is not None and not json.loads(body).get(field):
        return _failed(f"{url}: {field} is not ready")
    return 0


def _failed(why: str) -> int:
    sys.stderr.write(why + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

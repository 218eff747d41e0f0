"""`python -m ratchet.service.api`: the job API, as the settings say, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import sys

import uvicorn

from ratchet.service.api.app import create_app
from ratchet.service.settings import Settings

GRACE_SECONDS = 5
MAX_CONNECTIONS = 800
"""Event streams (200) and all others; fewer than the 1024 files that a process may often open.

Whoever comes when there are more is answered with 503 before the app sees the request.
"""
IDLE_SECONDS = 75
"""Longer than clients keep an idle connection (httpx: 5 s): else one is closed while it is used."""


def main() -> None:
    """Serve until told to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s %(message)s")
    logging.getLogger("ratchet.api").setLevel(logging.INFO)
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
    )


if __name__ == "__main__":
    main()

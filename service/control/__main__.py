# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
"""Runs the controller: `python -m ratchet.service.control`, with the settings of the service.

SIGTERM and SIGINT end it cleanly: running jobs go on, and the next controller takes them up.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from pydantic import SecretStr

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.attachment import attach_object_store
from ratchet.service.control.controller import AWAY_SECONDS, Controller
from ratchet.service.control.launcher import Launcher, auth_token
from ratchet.service.control.mirror import Mirror, MlflowMirror
from ratchet.service.control.processes import Processes
from ratchet.service.control.ray_jobs import RayJobs
from ratchet.service.errors import DatabaseSchemaError, DatabaseUnavailableError
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the controller until it is asked to stop.

    Returns:
        0 after a clean end, 1 where the database is of another release.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = Settings()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if settings.store is not None:
        attach_object_store(settings.home, settings.store)
    db = Database(settings.database_url)
    try:
        if not _laid_out(db, stopping):
            return 0
    except DatabaseSchemaError as error:
        _log.error("%s", error)
        return 1
    registry = Registry(settings.home, settings.tracking_uri)
    mlflow = MlflowMirror(registry)
    mirror = Mirror(db, registry, mlflow)
    Controller(db, settings, launcher_of(settings), registry, mirror).run(stopping)
    mlflow.stop()
    db.dispose()
    return 0


def launcher_of(settings: Settings) -> Launcher:
    """What runs drivers, by the settings."""
    if settings.launcher == "process":
        return Processes()
    token = auth_token(dict(os.environ), Path.home())
    return RayJobs(settings.ray_jobs_url, None if token is None else SecretStr(token))


def _laid_out(db: Database, stopping: threading.Event) -> bool:
    """Lay the tables out, waiting for the database; False when asked to stop before."""
    while not stopping.is_set():
        try:
            db.migrate()
        except DatabaseUnavailableError as error:
            _log.warning("the database is away: %s", error)
            stopping.wait(AWAY_SECONDS)
        else:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())

"""A connection to MLflow that fails in seconds, quietly and with one kind of error."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.errors import TrackingError, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow reads these from the environment only, some at import and some at each request. What the
# user has set stays. By default an absent server would hold an update up for four minutes a call.
_SETTINGS: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def default_tracking_uri(home: Path) -> str:
    """The SQLite store below a home folder."""
    return f"sqlite:///{(home / 'mlflow.db').resolve()}"


def is_server(tracking_uri: str) -> bool:
    """Whether a tracking URI names an MLflow server, not a database that we open ourselves."""
    return tracking_uri.startswith(("http://", "https://"))


@contextmanager
def mlflow_client(tracking_uri: str) -> Iterator[MlflowClient]:
    """A client of a tracking and model registry store.

    Args:
        tracking_uri: `sqlite:///…`, another database's URL, or a server's `http(s)://…`.

    Raises:
        TrackingError: When the store cannot be reached, or fails inside the block.
    """
    shown = without_credentials(tracking_uri)
    with _settings():
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if tracking_uri.startswith("sqlite:///"):
                Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(
                    parents=True, exist_ok=True
                )
            yield MlflowClient(tracking_uri, registry_uri=tracking_uri)
        except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
            told = str(error).replace(tracking_uri, shown)
            raise TrackingError(f"tracking_uri: MLflow at {shown} failed: {told}") from error


@contextmanager
def _settings() -> Iterator[None]:
    added = [name for name in _SETTINGS if name not in os.environ]
    os.environ.update({name: _SETTINGS[name] for name in added})
    # It warns of each retry; that MLflow is away is said once, by whoever asked.
    retries = logging.getLogger("urllib3.connectionpool")
    level = retries.level
    retries.setLevel(logging.ERROR)
    try:
        yield
    finally:
        retries.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


RUN_TAG = "ratchet.run"


def find_run(client: MlflowClient, lineage: str, key: str) -> str | None:
    """The id of the MLflow run that carries a tracker's key, or None when it was not sent."""
    experiment = client.get_experiment_by_name(lineage)
    if experiment is None:
        return None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.`{RUN_TAG}` = '{key}'", max_results=1
    )
    return found[0].info.run_id if found else None

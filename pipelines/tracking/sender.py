"""Sending an outbox to MLflow: events in, experiments, runs, metrics and artifacts out.

Sending an event twice is the same as once: runs are found by the key in their tags, MLflow keeps
one of two equal metrics, and artifacts have names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.tracking.mlflow_client import RUN_TAG, find_run, is_server, mlflow_client
from ratchet.pipelines.tracking.outbox import Event, Outbox

if TYPE_CHECKING:
    from mlflow import MlflowClient

# The most that MLflow takes in one call.
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100

_log = logging.getLogger(__name__)


def send(outbox: Outbox, tracking_uri: str) -> int:
    """Send what a store lacks, and note it as sent.

    Args:
        outbox: The events of one update.
        tracking_uri: The MLflow store.

    Returns:
        How many events were sent; 0 when the store had them all.

    Raises:
        TrackingError: When MLflow fails; what was sent until then is noted.
    """
    waiting = outbox.unsent(tracking_uri)
    if not waiting:
        return 0
    with mlflow_client(tracking_uri) as client:
        sender = _Sender(client, tracking_uri, outbox)
        for events, position in _batches(waiting):
            sender.send(events)
            outbox.mark(tracking_uri, position)
    return len(waiting)


def _batches(waiting: Sequence[tuple[Event, int]]) -> list[tuple[list[Event], int]]:
    """Runs of metrics events of one run together, every other event alone."""

    def key(item: tuple[int, tuple[Event, int]]) -> tuple[str, str] | int:
        index, (event, _) = item
        return ("metrics", event["run"]) if event["kind"] == "metrics" else index

    groups = [[pair for _, pair in group] for _, group in groupby(enumerate(waiting), key)]
    return [([event for event, _ in group], group[-1][1]) for group in groups]


class _Sender:
    """One connection, with the MLflow run of each key that it met."""

    def __init__(self, client: MlflowClient, tracking_uri: str, outbox: Outbox) -> None:
        self._client = client
        self._uri = tracking_uri
        self._outbox = outbox
        self._runs: dict[str, str] = {}
        self._lineage = next(event["lineage"] for event in outbox.events())
        self._handlers: Mapping[str, Callable[[Event], None]] = {
            "start": self._start,
            "params": self._params,
            "tags": self._tags,
            "text": self._text,
            "file": self._file,
            "end": self._end,
        }

    def send(self, events: Sequence[Event]) -> None:
        """Send one batch; an event that MLflow will never take is reported and left out."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode

        try:
            if events[0]["kind"] == "metrics":
                self._metrics(events)
            else:
                self._handlers[events[0]["kind"]](events[0])
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
            _log.warning("MLflow refuses a tracking event of kind %s: %s", events[0]["kind"], error)

    def _start(self, event: Event) -> None:
        key, parent = event["run"], event.get("parent")
        run_id = find_run(self._client, self._lineage, key)
        if run_id is None:
            tags = {**event["tags"], RUN_TAG: key, "mlflow.source.name": "ratchet"}
            if parent is not None:
                tags["mlflow.parentRunId"] = self._run(parent)
            run_id = self._client.create_run(
                self._experiment(), start_time=event["time"], tags=tags, run_name=event["name"]
            ).info.run_id
        self._runs[key] = run_id

    def _params(self, event: Event) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in event["params"].items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            batch = params[start : start + _PARAMS_PER_CALL]
            self._client.log_batch(self._run(event["run"]), params=batch)

    def _metrics(self, events: Sequence[Event]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, event["time"], event["step"])
            for event in events
            for name, value in event["values"].items()
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            batch = metrics[start : start + _METRICS_PER_CALL]
            self._client.log_batch(self._run(events[0]["run"]), metrics=batch)

    def _tags(self, event: Event) -> None:
        for name, value in event["tags"].items():
            self._client.set_tag(self._run(event["run"]), name, value)

    def _text(self, event: Event) -> None:
        run_id = self._run(event["run"])
        self._client.log_text(run_id, event["text"], event["path"])
        if event.get("table"):
            listed = [{"path": event["path"], "type": "table"}]
            self._client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(listed))

    def _file(self, event: Event) -> None:
        source = self._outbox.folder / event["source"]
        if not source.is_file():
            _log.warning("%s is gone and cannot be sent to MLflow as an artifact", source)
            return
        self._client.log_artifact(self._run(event["run"]), str(source), event["folder"] or None)

    def _end(self, event: Event) -> None:
        self._client.set_terminated(self._run(event["run"]), event["status"], event["time"])

    def _run(self, key: str) -> str:
        if key not in self._runs:
            run_id = find_run(self._client, self._lineage, key)
            if run_id is None:
                # Someone deleted the run in MLflow: begin it again from the event that began it.
                started = (e for e in self._outbox.events() if e["kind"] == "start")
                self._start(next(event for event in started if event["run"] == key))
            else:
                self._runs[key] = run_id
        return self._runs[key]

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._lineage)
        if found is not None:
            return found.experiment_id
        location = None if is_server(self._uri) else _artifacts_beside(self._uri)
        return self._client.create_experiment(self._lineage, artifact_location=location)


def _artifacts_beside(tracking_uri: str) -> str | None:
    """A folder beside an SQLite file; by default MLflow would use the current directory."""
    if not tracking_uri.startswith("sqlite:///"):
        return None
    database = Path(tracking_uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "mlartifacts").as_uri()

"""Tracking an update in MLflow, so that MLflow being away never costs the update anything.

Every event goes to the run's outbox first and to MLflow from there. One experiment a lineage, one
run an update, one child run a task. Used by the driver only: workers know nothing of MLflow.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ratchet.pipelines.errors import NotFoundError, TrackingError
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.tracking.outbox import FILE_NAME, Event, Outbox
from ratchet.pipelines.tracking.sender import send

MATRIX_NAME = "accuracy_matrix.json"
HEATMAP_NAME = "accuracy_matrix.png"

Status = Literal["FINISHED", "FAILED", "KILLED"]

_log = logging.getLogger(__name__)


class Tracker:
    """The events of one update on their way to MLflow.

    A tracker made again on the folder of an interrupted update goes on with the same MLflow run,
    and drops points of steps that were tracked before the interruption.

    Args:
        folder: The run's folder, which keeps the outbox.
        tracking_uri: The MLflow store; None only fills the outbox.
        send_every_seconds: How long points may wait before they are sent.
    """

    def __init__(
        self, folder: Path, tracking_uri: str | None, send_every_seconds: float = 10.0
    ) -> None:
        self.key = ""
        self.away = False
        self._outbox = Outbox(folder)
        self._uri = tracking_uri
        self._interval = send_every_seconds
        self._due = time.monotonic() + send_every_seconds
        self._tasks: set[str] = set()
        self._steps: dict[tuple[str, str], int] = {}
        for event in self._outbox.events():
            self._recall(event)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.finish(status="FAILED" if issubclass(kind, Exception) else "KILLED")

    def start(
        self,
        lineage: str,
        name: str,
        spec: Mapping[str, Json],
        spec_yaml: str,
        spec_folder: Path | None = None,
        *,
        send: bool = True,
    ) -> None:
        """Begin the update's run, or go on with it.

        Args:
            lineage: Names the experiment.
            name: Names the run.
            spec: The spec as plain values; logged as flattened parameters.
            spec_yaml: The spec as it is kept, for `spec.yaml`.
            spec_folder: Where the spec came from; its git commit is logged if it has one.
            send: Whether to tell MLflow at once, or leave that to the next `send`.
        """
        if self.key:
            return
        self.key = uuid.uuid4().hex
        commit = git_commit(spec_folder) if spec_folder is not None else None
        tags = {} if commit is None else {"mlflow.source.git.commit": commit}
        self._add(self.key, "start", lineage=lineage, name=name, parent=None, tags=tags)
        self._add(self.key, "params", params=flattened(spec))
        self._add(self.key, "text", path="spec.yaml", text=spec_yaml)
        if send:
            self.send()

    def task_started(self, task: str, info: Mapping[str, Json]) -> None:
        """Begin the child run of a task; `info` holds its sizes and is logged as parameters."""
        if task in self._tasks:
            return
        self._tasks.add(task)
        self._add(self._child(task), "start", name=task, parent=self.key, tags={})
        self._add(self._child(task), "params", params=flattened(info))

    def knows(self, task: str) -> bool:
        """Whether the child run of a task has begun, now or before an interruption."""
        return task in self._tasks

    def log_step(self, task: str, step: int, values: Mapping[str, float | None]) -> None:
        """Log a point of a task's curves (loss, learning rate, examples a second).

        Points are sent in batches. Values that are None or not finite are left out: MLflow's
        charts cannot show them, and a diverged loss is an error elsewhere.
        """
        self._log_metrics(self._child(task), step, values)
        if time.monotonic() >= self._due:
            self.send()

    def log_search(self, task: str, record: SearchRecord) -> None:
        """Log what was tried and decided for a task: a step a training, and parameters.

        Args:
            task: Its name.
            record: What was tried and decided.
        """
        for number, one in enumerate(record.learning_rates, start=1):
            plain = {"learning_rate": one.learning_rate, "score": one.score}
            self._log_metrics(self._child(task), number, _under("search/plain", plain))
        for number, one in enumerate(record.strengths, start=1):
            held = {**one.strengths, "score": one.score}
            self._log_metrics(self._child(task), number, _under("search/held", held))
        self.log_params(task, {"decided": asdict(record.decided)})

    def log_params(self, task: str, values: Mapping[str, Json]) -> None:
        """Log more parameters of a task's child run, nested ones with dots."""
        self._add(self._child(task), "params", params=flattened(values))

    def log_accuracies(self, stage: int, accuracies: Mapping[str, float | None]) -> None:
        """Log the accuracy on each task after a stage, counted from 1, at the step `stage`."""
        self._log_metrics(
            self.key, stage, {f"accuracy/{task}": value for task, value in accuracies.items()}
        )

    def log_phases(
        self, task: str | None, seconds: Mapping[str, float], peak_memory_bytes: int | None
    ) -> None:
        """Log seconds by phase and peak memory, of a task or (None) of the whole update."""
        values: dict[str, float | None] = {
            f"seconds/{name}": value for name, value in seconds.items()
        }
        values["peak_memory_bytes"] = peak_memory_bytes
        self._log_metrics(self.key if task is None else self._child(task), 0, values)

    def task_finished(
        self, task: str, metrics: Mapping[str, float | None], status: Status = "FINISHED"
    ) -> None:
        """End the child run of a task and send everything so far."""
        self._log_metrics(self._child(task), 0, metrics)
        self._add(self._child(task), "end", status=status)
        self.send()

    def log_matrix(
        self,
        matrix: Sequence[Sequence[float | None]],
        tasks: Sequence[str],
        scores: Sequence[str] = ("accuracy",),
    ) -> None:
        """Log the accuracy matrix as a table and as a heat map.

        Args:
            matrix: Accuracies, [stages, tasks]; None or NaN where not evaluated.
            tasks: Names of the columns.
            scores: Names of the scores that stand for accuracy in it.
        """
        from ratchet.pipelines.pages.heatmap import write_heatmap

        rows = [[index + 1, *map(_finite, row)] for index, row in enumerate(matrix)]
        table = json.dumps({"columns": ["after", *tasks], "data": rows}, allow_nan=False)
        self._add(self.key, "text", path=MATRIX_NAME, text=table, table=True)
        picture = self._outbox.folder / HEATMAP_NAME
        write_heatmap(matrix, tasks, picture, scores)
        self.log_file(picture)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the update's run, for what is known only later (its version, the verdict)."""
        self._add(self.key, "tags", tags=dict(tags))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Log a file as an artifact, below `folder` in the run's artifacts.

        The outbox keeps its place, not its content: it must stay there until it is sent.
        """
        place = os.path.relpath(path, self._outbox.folder)
        self._add(self.key, "file", source=place, folder=folder)

    def finish(
        self, metrics: Mapping[str, float | None] | None = None, status: Status = "FINISHED"
    ) -> None:
        """End the update's run with its metrics, and send what is left."""
        if not self.key:
            return
        self._log_metrics(self.key, 0, metrics or {})
        self._add(self.key, "end", status=status)
        self.send()

    def send(self) -> None:
        """Send the outbox now; MLflow being away is warned of once and costs nothing else."""
        if self._uri is None:
            return
        try:
            send(self._outbox, self._uri)
            self.away = False
        except TrackingError as error:
            if not self.away:
                _log.warning(
                    "MLflow is away: the update goes on and its tracking data waits in %s. "
                    "Send it later with `ratchet track --send`. %s",
                    self._outbox.folder,
                    error,
                )
            self.away = True
        # An absent server costs seconds at each attempt: ask it less often.
        self._due = time.monotonic() + self._interval * (6 if self.away else 1)

    def _log_metrics(self, run: str, step: int, values: Mapping[str, float | None]) -> None:
        fresh = {}
        for name, value in values.items():
            key, known = _metric_name(name), _finite(value)
            repeated = 0 < step <= self._steps.get((run, key), -1)
            if known is not None and not repeated:
                fresh[key] = float(known)
        if fresh:
            self._add(run, "metrics", step=step, values=fresh)

    def _child(self, task: str) -> str:
        return f"{self.key}/{task}"

    def _add(self, run: str, kind: str, **content: Any) -> None:
        event: Event = {"kind": kind, "run": run, "time": int(time.time() * 1000), **content}
        self._outbox.append(event)
        self._recall(event)

    def _recall(self, event: Event) -> None:
        """Know what an event says, be it new or from before an interruption."""
        if event["kind"] == "start" and event["parent"] is None:
            self.key = event["run"]
        elif event["kind"] == "start":
            self._tasks.add(event["name"])
        elif event["kind"] == "metrics":
            for name in event["values"]:
                self._steps[event["run"], name] = event["step"]


def send_outbox(folder: Path, tracking_uri: str) -> int:
    """Send what an update tracked while MLflow was away.

    Args:
        folder: The run's folder.
        tracking_uri: The MLflow store; sending to one that has everything sends nothing.

    Returns:
        How many events were sent.

    Raises:
        NotFoundError: When the folder has no outbox.
        TrackingError: When MLflow cannot be reached; what it took is not sent again.
    """
    if not (folder / FILE_NAME).is_file():
        raise NotFoundError(f"{folder}: no {FILE_NAME} here. Give the folder of a run")
    return send(Outbox(folder), tracking_uri)


def flattened(values: Mapping[str, Json], prefix: str = "") -> dict[str, str]:
    """Nested plain values by dotted names; items of lists go by their `type`, or position."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{path}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            named = {_name_of(item, i): item for i, item in enumerate(value)}
            flat |= flattened(named, f"{path}.")
        else:
            flat[path] = str(value)
    return flat


def _name_of(item: Json, place: int) -> str:
    return str(item.get("type", place) if isinstance(item, Mapping) else place)


def git_commit(folder: Path) -> str | None:
    """The commit that a folder is at, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _under(group: str, values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {f"{group}/{name}": value for name, value in values.items()}


def _metric_name(name: str) -> str:
    """A name that MLflow takes; it allows word characters and `-. /:` only."""
    return re.sub(r"[^\w\-. /:]", "_", name, flags=re.ASCII)

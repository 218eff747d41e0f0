# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownVariableType=false
"""The folder of a job: how the controller and the driver talk. Files only, so either may die.

job.json          what is to be done; the controller writes it
attempt.json      the fence: the attempt that may act; an older one ends itself
driver-<n>.json   the process of attempt n; driver-<n>.log what it printed
heartbeat         touched every second while a driver lives
events.jsonl      what happens, a line each
result.json       what the job gave; failure-<n>.json why attempt n gave nothing
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ratchet.pipelines.errors import Problem, RatchetError, SpecError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.json_value import Json, JsonObject

Read = TypeVar("Read")


@dataclass(frozen=True)
class Assignment:
    """What a driver is to do.

    Attributes:
        job: The job's id.
        kind: `update`, `study` or `plan`.
        spec: The spec as it was given, with absolute paths.
        home: The folder that keeps all state.
        tracking_uri: The MLflow store, or None for no tracking.
        address: The Ray that workers run on, or None for one of the driver's own.
        parent: Number of the version that an update starts from, or None for the base model.
    """

    job: str
    kind: str
    spec: JsonObject
    home: str
    tracking_uri: str | None
    address: str | None
    parent: int | None


@dataclass(frozen=True)
class DriverProcess:
    """A driver, known well enough that no later process is taken for it."""

    pid: int
    create_time: float
    host: str


@dataclass(frozen=True)
class Failure:
    """Why an attempt gave nothing.

    Attributes:
        kind: `spec`, `data`, `method`, `model`, `not_found`, `version`, `busy`, `diverged`,
            `store`, `store_unreachable`, `tracking`, `memory` or `internal`.
        message: What is wrong and what to do.
        problems: Each of them, where there are several; their values are plain.
        retryable: Whether the same job may do better another time.
    """

    kind: str
    message: str
    problems: tuple[Problem, ...] = ()
    retryable: bool = False


class JobFolder:
    """One job's folder.

    Every `read_…` returns None for a file that is not there.

    Raises:
        SpecError: From every `read_…` for a file that is there and makes no sense.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(home: Path, job_id: str) -> JobFolder:
        """The folder of a job below a home."""
        return JobFolder(home / "jobs" / job_id)

    @property
    def events(self) -> Path:
        """Where events are appended."""
        return self.path / "events.jsonl"

    @property
    def heartbeat(self) -> Path:
        """The file that a living driver touches."""
        return self.path / "heartbeat"

    def log(self, attempt: int) -> Path:
        """What the driver of an attempt printed."""
        return self.path / f"driver-{attempt}.log"

    def write_assignment(self, assignment: Assignment) -> None:
        """Say what is to be done; to this user alone, as the store's URI may hold a password."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write("job.json", asdict(assignment))

    def read_assignment(self) -> Assignment | None:
        """What is to be done."""
        return self._read("job.json", lambda raw: Assignment(**raw))

    def write_fence(self, attempt: int) -> None:
        """Let an attempt act, and no older one."""
        self._write("attempt.json", {"attempt": attempt})

    def read_fence(self) -> int | None:
        """The attempt that may act."""
        return self._read("attempt.json", lambda raw: int(raw["attempt"]))

    def write_driver(self, attempt: int, driver: DriverProcess) -> None:
        """Say which process an attempt is."""
        self._write(f"driver-{attempt}.json", asdict(driver))

    def read_driver(self, attempt: int) -> DriverProcess | None:
        """The process of an attempt, which may have ended."""
        return self._read(f"driver-{attempt}.json", _driver)

    def write_result(self, result: Mapping[str, Json]) -> None:
        """Keep what the job gave; numbers that are not finite become null."""
        self._write("result.json", finite(result))

    def read_result(self) -> JsonObject | None:
        """What the job gave."""
        return self._read("result.json", dict)

    def write_failure(self, attempt: int, failure: Failure) -> None:
        """Say why an attempt gave nothing."""
        self._write(f"failure-{attempt}.json", finite(asdict(failure)))

    def read_failure(self, attempt: int) -> Failure | None:
        """Why an attempt gave nothing."""
        return self._read(f"failure-{attempt}.json", _failure)

    def _write(self, name: str, content: Mapping[str, Json]) -> None:
        write_atomically(self.path / name, json.dumps(content, allow_nan=False))

    def _read(self, name: str, parse: Callable[[Any], Read]) -> Read | None:
        path = self.path / name
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return parse(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"not what a job's folder holds under this name ({error!r})"
            raise SpecError([Problem(str(path), message, hint="Submit the job anew")]) from error


def _driver(raw: Any) -> DriverProcess:
    return DriverProcess(int(raw["pid"]), float(raw["create_time"]), str(raw["host"]))


def _failure(raw: Any) -> Failure:
    problems = tuple(_problem(each) for each in raw["problems"])
    return Failure(str(raw["kind"]), str(raw["message"]), problems, bool(raw["retryable"]))


def _problem(raw: Any) -> Problem:
    return Problem(str(raw["where"]), str(raw["message"]), raw["value"], str(raw["hint"]))


def finite(value: Any) -> Any:
    """Plain values with None in the place of numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [finite(own) for own in value]
    return value


class FenceLostError(RatchetError, RuntimeError):
    """A driver whose attempt may act no more, because a newer one does."""

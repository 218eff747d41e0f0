"""Errors by what is to be done about them: a kind, and whether another attempt may do better."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ratchet.pipelines.errors import (
    PASSING_ERRNOS,
    BusyError,
    DataError,
    DivergedError,
    MethodError,
    ModelError,
    NotFoundError,
    ObjectStoreError,
    ObjectStoreUnreachableError,
    Problem,
    SpecError,
    TrackingError,
    VersionError,
    is_passing,
)
from ratchet.service.driver.job_folder import Failure

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (SpecError, "spec"),
    (DataError, "data"),
    (MethodError, "method"),
    (ModelError, "model"),
    (NotFoundError, "not_found"),
    (VersionError, "version"),
    (BusyError, "busy"),
    (DivergedError, "diverged"),
    (ObjectStoreUnreachableError, "store_unreachable"),
    (ObjectStoreError, "store"),
    (TrackingError, "tracking"),
    (MemoryError, "memory"),
)
_RETRYABLE = frozenset({"busy", "store_unreachable", "tracking", "memory"})
_MEMORY_ERRORS = ("OutOfMemoryError",)  # torch's and Ray's, of which neither is loaded for this
_LOST_ERRORS = (
    "ActorDiedError",
    "ActorUnavailableError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "ControllerError",
    "EndpointConnectionError",
    "NodeDiedError",
    "OwnerDiedError",
    "PreemptionError",
    "RayActorError",
    "RaySystemError",
    "ReadTimeoutError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "WorkerCrashedError",
    "WorkerGroupStartupFailedError",
    "WorkerGroupStartupTimeoutError",
)
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors and other libraries in Rust spell the number."""
PLAIN = (str, int, float, bool, type(None))


def failure_of(error: BaseException) -> Failure:
    """What a driver says of the error that ended it."""
    kind = _kind(error)
    own: Iterable[Problem] = getattr(error, "problems", ())
    problems = tuple(replace(problem, value=_plain(problem.value)) for problem in own)
    message = str(error) or type(error).__name__
    if kind == "internal":
        message = f"{type(error).__name__}: {message}"
    return Failure(
        kind, message, problems, kind in _RETRYABLE or _is_loss(error) or _is_passing(error)
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, PLAIN) else repr(value)


def _kind(error: BaseException) -> str:
    for one in _chain(error):
        if type(one).__name__ in _MEMORY_ERRORS:
            return "memory"
    return next((kind for own, kind in _KINDS if isinstance(error, own)), "internal")


def _is_loss(error: BaseException) -> bool:
    """Whether a machine, a process or a connection was lost, rather than something being wrong."""
    for one in _chain(error):
        causes: Any = getattr(one, "worker_failures", {})
        if any(type(cause).__name__ in _LOST_ERRORS for cause in causes.values()):
            return True
        if type(one).__name__ in _LOST_ERRORS and _kind_is_open(one):
            return True
    return False


def _is_passing(error: BaseException) -> bool:
    """Whether a disk or a network failed, rather than what was asked of it."""
    for one in _chain(error):
        if is_passing(one):
            return True
        causes: Any = getattr(one, "worker_failures", {})
        for told in (str(one), *map(str, causes.values())):
            if any(int(number) in PASSING_ERRNOS for number in _RUST_ERROR.findall(told)):
                return True
            if any(f"[Errno {number}]" in told for number in PASSING_ERRNOS):
                return True
    return False


def _kind_is_open(error: BaseException) -> bool:
    return not any(isinstance(error, own) for own, _ in _KINDS)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that it came from."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found and len(found) < sys.getrecursionlimit():
        found.append(following)
        following = following.__cause__
    return found

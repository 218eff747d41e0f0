"""Exit codes, and errors as plain values. Other programs rely on both."""

from __future__ import annotations

from typing import Any

from ratchet.pipelines.errors import (
    DataError,
    MethodError,
    ModelError,
    NotFoundError,
    RatchetError,
    SpecError,
)
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.service.errors import ServiceError

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
REFUSED = 4
CANCELLED = 5
UNFINISHED = 6

BY_STATUS = {400: USAGE, 404: NOT_FOUND, 413: USAGE, 415: USAGE, 422: USAGE}
"""Of the statuses of a service that say more than that it failed."""

PLAIN = (str, int, float, bool)


def exit_code(error: RatchetError) -> int:
    """The exit code that stands for an error.

    A model or method that cannot do what the spec asks counts as a bad spec.
    """
    if isinstance(error, SpecError | DataError | MethodError | ModelError):
        return USAGE
    if isinstance(error, ServiceError):
        return BY_STATUS.get(error.status, FAILED)
    if isinstance(error, TimeoutError):
        return UNFINISHED
    return NOT_FOUND if isinstance(error, NotFoundError) else FAILED


def as_json_error(error: RatchetError) -> JsonObject:
    """An error as plain JSON values, with every problem that it carries."""
    problems = getattr(error, "problems", ())
    return {
        "error": {
            "type": type(error).__name__,
            "message": str(error),
            "problems": [
                {
                    "where": problem.where,
                    "message": problem.message,
                    "value": _plain(problem.value),
                    "hint": problem.hint,
                }
                for problem in problems
            ],
        }
    }


def _plain(value: Any) -> str | int | float | bool | None:
    """A value that JSON can hold: numbers that are not finite and containers are shown as text."""
    if value is None or (isinstance(value, PLAIN) and value == value and value not in INFINITE):
        return value
    return repr(value)


INFINITE = (float("inf"), float("-inf"))

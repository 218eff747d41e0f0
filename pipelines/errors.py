"""The exception tree of Ratchet.

    RatchetError
    ├── SpecError         (ValueError)        a spec that cannot be run; carries every problem found
    ├── DataError         (ValueError)        data that cannot be learned from, problem by problem
    ├── MethodError       (ValueError)        a method that cannot do what was asked of it
    ├── ModelError        (ValueError)        a model that cannot be loaded or does not fit
    ├── VersionError      (ValueError)        a version on disk that is broken or too new
    ├── NotFoundError     (LookupError)       a lineage, version, task or file that does not exist
    ├── BusyError         (RuntimeError)      a lineage that another update is changing
    ├── DivergedError     (ArithmeticError)   a loss or gradient that is not finite
    ├── ObjectStoreError        (OSError)           state on S3 that cannot be read or written
    │   └── ObjectStoreUnreachableError             ... now: the same may work later
    └── TrackingError     (ConnectionError)   the tracking server cannot be reached

Every message says which field, its value, what is allowed and what to do. Every error survives
pickling, because errors cross process borders in a cluster.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it.

    Attributes:
        where: Path of the field (`methods[1].strength`) or of the row (`train.jsonl:17`).
        message: What is wrong and what is allowed, as one sentence.
        value: The offending value as it was given, or None when nothing was given.
        hint: The nearest valid name or the next step, or an empty string.
    """

    where: str
    message: str
    value: Any = None
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        if self.value is not None:
            shown = repr(self.value)
            text += f" (got {shown if len(shown) <= 80 else shown[:77] + '...'})"
        return f"{text}. {self.hint}" if self.hint else text


class RatchetError(Exception):
    """Base of every error that Ratchet raises on purpose."""


class _ProblemsError(RatchetError):
    """An error that reports many problems at once."""

    headline = "problems found"

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems)} {self.headline}:"]
        return "\n".join(lines + [f"  {problem}" for problem in self.problems])


class SpecError(_ProblemsError, ValueError):
    """A spec that cannot be run. `problems` holds every one found, not only the first."""

    headline = "problems in the spec"


class DataError(_ProblemsError, ValueError):
    """Data that cannot be learned from. `problems` holds every one found, with file and line."""

    headline = "problems in the data"


class MethodError(RatchetError, ValueError):
    """A method that cannot do what was asked of it with this model, scenario or data."""


class ModelError(RatchetError, ValueError):
    """A model that cannot be loaded, or does not fit what is asked of it."""


class VersionError(RatchetError, ValueError):
    """A version on disk that is broken, incomplete or written by a newer release."""


class NotFoundError(RatchetError, LookupError):
    """A lineage, version, task or file that does not exist."""


class BusyError(RatchetError, RuntimeError):
    """A lineage that another update is changing; names the process that holds it."""


class DivergedError(RatchetError, ArithmeticError):
    """A loss or gradient that is not finite; names the task and the step."""


class ObjectStoreError(RatchetError, OSError):
    """State on S3 that cannot be read or written; what is there and here stays as it is."""


class ObjectStoreUnreachableError(ObjectStoreError):
    """A store that does not answer, or not in time: the same call may work later."""


class TrackingError(RatchetError, ConnectionError):
    """The tracking server cannot be reached; the message says how to send the data later."""


PASSING_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,  # s3fs's word for a store that asks to slow down
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EDQUOT,
        errno.EHOSTUNREACH,
        errno.EIO,
        errno.ENETUNREACH,
        errno.ENOLINK,
        errno.ENOSPC,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
        getattr(errno, "EREMOTEIO", errno.EIO),  # ... and for one that failed inside
    }
)
"""What a disk or a network says that is full, broken or away; it passes, or somebody mends it."""


def is_passing(error: BaseException) -> bool:
    """Whether a disk or a network failed just now, rather than what was asked of it."""
    if isinstance(error, RatchetError) or not isinstance(error, OSError):
        return isinstance(error, ObjectStoreUnreachableError)
    if error.errno is None:
        return isinstance(error, TimeoutError | ConnectionError)
    return error.errno in PASSING_ERRNOS


def without_credentials(address: str) -> str:
    """An address without the user and the password that somebody may have put into it."""
    scheme, separator, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"

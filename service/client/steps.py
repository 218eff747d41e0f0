"""What an operation asks of the outside world, one step at a time.

An operation is a generator of steps that returns its result. It waits for nothing itself: a
blocking driver and an asynchronous one (`ratchet.service.client.drivers`) take the steps, so
that every operation is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Server = Literal["api", "router"]
Query = Mapping[str, str | int | None]
"""Parameters of a request; those that are None are left out."""


@dataclass(frozen=True)
class Call:
    """Send a request; the answer is the `httpx.Response`, read to its end.

    Attributes:
        method: The HTTP method.
        path: Below the server's URL.
        query: Its parameters.
        body: What is sent as JSON, or None.
        headers: Beside the usual ones.
        file: A file to send as a form, or None.
        server: Which of the two servers is asked.
        repeatable: Whether sending it twice does what sending it once does.
    """

    method: str
    path: str
    query: Query = field(default_factory=dict[str, str | int | None])
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    file: Path | None = None
    server: Server = "api"
    repeatable: bool = True


@dataclass(frozen=True)
class Pause:
    """Let seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Open:
    """Open a stream in the place of one that is open; the answer is the unread response.

    Attributes:
        path: Below the API's URL.
        headers: Beside the usual ones.
        silence_seconds: A stream that says nothing for so long is broken.
    """

    path: str
    headers: Mapping[str, str]
    silence_seconds: float


@dataclass(frozen=True)
class Read:
    """Read on from the open stream; the answer is bytes, or None at its end."""


@dataclass(frozen=True)
class Close:
    """Close the open stream, if there is one."""


@dataclass(frozen=True)
class Emit:
    """Give a value to whoever iterates over the operation."""

    value: Any


@dataclass(frozen=True)
class Tell:
    """Call a function of the user's with a value; an awaitable that it returns is awaited."""

    listener: Callable[[Any], Any]
    value: Any


Step = Call | Pause | Open | Read | Close | Emit | Tell
Steps = Generator[Step, Any, T]

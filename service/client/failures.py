"""Answers that are refusals, as the exceptions that the server raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import httpx

from ratchet.pipelines.errors import Problem, RatchetError
from ratchet.service.errors import (
    ForbiddenError,
    InvalidRequestError,
    KeyRefusedError,
    NoSuchPathError,
    ServiceError,
    UnavailableError,
)

BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidRequestError,
    401: KeyRefusedError,
    403: ForbiddenError,
    404: NoSuchPathError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
"""For answers that are not the service's own, say a proxy's."""

SHOWN_CHARACTERS = 300


class UnfinishedError(RatchetError, TimeoutError):
    """A job that had not ended when the time to wait for it was over; it goes on."""


@dataclass(frozen=True)
class _Refusal:
    """What is read of a problem document, of which an older service may leave out a part."""

    type: str
    detail: str
    param: str | None
    errors: list[tuple[str, str]]


def error_of(response: httpx.Response) -> ServiceError:
    """The exception that an answer of status 400 or more stands for, with every problem."""
    document = _document(response)
    if document is None:
        kind = BY_STATUS.get(response.status_code, ServiceError)
        text = " ".join(response.text.split())[:SHOWN_CHARACTERS]
        return kind(f"{response.request.url} answered {response.status_code}: {text}")
    code = document.type.rpartition(":")[2]
    kinds = [kind for kind in _subclasses(ServiceError) if kind.code == code]
    exact = [kind for kind in kinds if kind.status == response.status_code] or kinds
    kind = exact[0] if exact else BY_STATUS.get(response.status_code, ServiceError)
    return kind(document.detail, document.param, _problems(document))


def retry_after(response: httpx.Response) -> float | None:
    """Seconds after which the server wants to be asked again; None where it does not say."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


def unreachable(url: httpx.URL | str, error: httpx.TransportError) -> UnavailableError:
    """That a server does not answer, and what to do about it."""
    reason = str(error) or type(error).__name__
    return UnavailableError(
        f"url: {url} cannot be reached ({reason}). Start the service with `ratchet up`, or say "
        "where it is with --url or RATCHET_URL"
    )


def _document(response: httpx.Response) -> _Refusal | None:
    """The problem document of a refusal; None where the answer is something else."""
    try:
        found = response.json()
    except ValueError:
        return None
    if not isinstance(found, dict) or "detail" not in found:
        return None
    document = cast("dict[str, Any]", found)
    own: dict[str, Any] = document.get("error") or {}
    details: list[dict[str, Any]] = document.get("errors") or []
    return _Refusal(
        type=str(document.get("type", "")),
        detail=str(document["detail"]),
        param=own.get("param"),
        errors=[(str(each.get("pointer", "")), str(each.get("detail", ""))) for each in details],
    )


def _problems(document: _Refusal) -> list[Problem]:
    """The single problems; the text of each begins with the field that its pointer names."""
    found: list[Problem] = []
    for pointer, text in document.errors:
        where = _where(pointer)
        found.append(Problem(where, text.removeprefix(f"{where}: ") if where else text))
    return found


def _where(pointer: str) -> str:
    """`#/methods/1/strength` as `methods[1].strength`."""
    names = pointer.removeprefix("#").split("/")[1:]
    where = ""
    for name in (unquote(each).replace("~1", "/").replace("~0", "~") for each in names):
        where += f"[{name}]" if name.isdecimal() else f".{name}" if where else name
    return where


def _subclasses(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for own in kind.__subclasses__():
        yield own
        yield from _subclasses(own)

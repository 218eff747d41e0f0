# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Every refusal and failure of the API in one shape: a problem document."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.spec.problems import path_of
from ratchet.service.errors import (
    InvalidRequestError,
    InvalidSpecError,
    KeyRefusedError,
    NoSuchPathError,
    NotAllowedError,
    ServiceError,
    TooLargeError,
    problem_document,
)

PROBLEM_TYPE = "application/problem+json"
MAX_PROBLEMS = 100
SHOULD_BE = "input should be "
LITERAL = f"{SHOULD_BE}'"
"""How pydantic speaks of a literal; as one member of a union, it says what the others do, too."""

_log = logging.getLogger(__name__)


def handle_errors(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(SpecError, _spec_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)


def problem_response(
    path: str, error: ServiceError, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer that says what went wrong."""
    own = dict(headers or {})
    if error.retry_after_seconds is not None:
        own.setdefault("Retry-After", str(error.retry_after_seconds))
    if isinstance(error, KeyRefusedError):
        own["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem_document(error, path), error.status, own, PROBLEM_TYPE)


def invalid_request(problems: Sequence[Problem]) -> InvalidRequestError:
    """The refusal of a request, with all of its problems."""
    return InvalidRequestError(*_summary(problems))


def invalid_spec(problems: Sequence[Problem]) -> InvalidSpecError:
    """The refusal of a spec, with all of its problems."""
    return InvalidSpecError(*_summary(problems))


def _summary(problems: Sequence[Problem]) -> tuple[str, str | None, Sequence[Problem]]:
    first = problems[0]
    more = f" (and {len(problems) - 1} more, see errors)" if len(problems) > 1 else ""
    return f"{first}{more}", first.where or None, problems[:MAX_PROBLEMS]


def _answer(request: Request, error: ServiceError) -> Response:
    return problem_response(request.url.path, error)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError), "registered for it alone"
    return _answer(request, error)


async def _spec_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError), "registered for it alone"
    return _answer(request, invalid_request(error.problems))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it alone"
    problems: dict[str, Problem] = {}
    details: Sequence[ErrorDetails] = error.errors()
    for detail in details:
        problem = _problem(detail, error.body)
        place = problem.where or problem.message
        known = problems.setdefault(place, problem)
        if known is not problem and known.message.startswith(LITERAL):
            problems[place] = _either(known, problem)
    return _answer(request, invalid_request(list(problems.values())))


def _either(one: Problem, other: Problem) -> Problem:
    """What two members of a union say of the same value."""
    return replace(one, message=f"{one.message} or {other.message.removeprefix(SHOULD_BE)}")


def _problem(detail: ErrorDetails, body: Json) -> Problem:
    """One of pydantic's errors in Ratchet's words."""
    source, *location = detail["loc"]
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = detail.get("input")
    shown = value if isinstance(value, str | int | float | bool) else None
    if source != "body":
        name = ".".join(map(str, location))
        return Problem("", f"{source} parameter {name}: {message}", shown)
    where = path_of(_existing(location, body))
    match detail["type"]:
        case "extra_forbidden":
            return Problem(where, "unknown field")
        case "missing":
            return Problem(path_of(location), "this field is required")
        case "model_attributes_type" | "model_type" | "dict_type":
            return Problem(where, "must be an object")
        case _:
            return Problem(where, message, shown)


def _existing(location: Sequence[int | str], body: Any) -> list[int | str]:
    """A location without the names of union members that pydantic appends."""
    found: list[int | str] = []
    inside: Any = body
    for part in location:
        is_index = isinstance(inside, list) and isinstance(part, int) and part < len(inside)
        if not is_index and not (isinstance(inside, Mapping) and part in inside):
            break
        inside = inside[part]  # pyright: ignore[reportArgumentType, reportCallIssue]
        found.append(part)
    return found


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it alone"
    path = request.url.path
    match error.status_code:
        case NotAllowedError.status:
            allowed = (error.headers or {}).get("Allow", "")
            text = f"{request.method} {path} is not allowed; use {allowed or 'another method'}"
            return problem_response(path, NotAllowedError(text), {"Allow": allowed})
        case NoSuchPathError.status:
            text = f"there is no {path}; see /docs for what there is"
            return _answer(request, NoSuchPathError(text))
        case TooLargeError.status:
            return _answer(request, TooLargeError("body: more bytes than this path reads"))
        case _:
            return _answer(request, InvalidRequestError(f"the request is broken: {error.detail}"))


async def _unexpected_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, ServiceError("the request failed inside the server; its log says why"))

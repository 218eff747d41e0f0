"""The HTTP interface for inference: routes, limits, and errors as JSON; no models and no Ray."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from ratchet.pipelines.errors import Problem
from ratchet.service.errors import (
    InvalidRequestError,
    NoSuchPathError,
    NotAllowedError,
    ServiceError,
    TooLargeError,
    problem_document,
)
from ratchet.service.schemas.classify import (
    MAX_BODY_BYTES,
    ClassifyRequest,
    ClassifyResponse,
    Health,
    ModelList,
)

PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """Who answers behind the interface. Each method raises a `ServiceError` for the client."""

    async def classify(self, request: ClassifyRequest) -> bytes:
        """A `ClassifyResponse` as JSON."""
        ...

    async def models(self) -> ModelList:
        """What a request can name."""
        ...

    async def health(self) -> Health:
        """How the lineages are served."""
        ...


def create_endpoint(backend: Backend) -> FastAPI:
    """The interface over a backend."""
    app = FastAPI(title="Ratchet inference", docs_url="/docs", redoc_url=None)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    body = {
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: {"schema": ClassifyRequest.model_json_schema()}},
        }
    }

    @app.post("/v1/classify", response_model=ClassifyResponse, openapi_extra=body)
    @app.post("/classify", response_model=ClassifyResponse, openapi_extra=body)
    async def classify(request: Request) -> Response:
        """Label texts, each by the task that is named or inferred."""
        wanted = parse_request(await read_body(request))
        return Response(await backend.classify(wanted), media_type=JSON_TYPE)

    @app.get("/v1/models")
    async def models() -> ModelList:
        """What a request can name."""
        return await backend.models()

    @app.get("/healthz")
    async def health() -> Health:
        """Which versions answer, and why others do not."""
        return await backend.health()

    @app.get("/livez")
    async def live() -> dict[str, str]:
        """Whether this process answers at all."""
        return {"status": "ok"}

    return app


async def read_body(request: Request) -> bytes:
    """The body of a request, read no further than the limit.

    Raises:
        TooLargeError: It is longer.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError(
                f"body: more than {MAX_BODY_BYTES} bytes; send the texts in several requests"
            )
    return bytes(body)


def parse_request(body: bytes) -> ClassifyRequest:
    """The request in a body.

    Raises:
        InvalidRequestError: With everything that is wrong with it.
    """
    try:
        return ClassifyRequest.model_validate_json(body)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False)]
    first = problems[0]
    more = f" (and {len(problems) - 1} more, see errors)" if len(problems) > 1 else ""
    raise InvalidRequestError(f"{first}{more}", first.where.split(".")[0] or None, problems)


def _problem(detail: Any) -> Problem:
    """One of pydantic's errors in Ratchet's words."""
    where = ".".join(str(part) for part in detail["loc"])
    fields = ", ".join(ClassifyRequest.model_fields)
    match detail["type"]:
        case "json_invalid":
            return Problem("", f"the body is not JSON: {detail['ctx']['error']}")
        case "extra_forbidden":
            return Problem(where, f"unknown field; allowed: {fields}")
        case "model_type" | "dict_type":
            return Problem("", f"the body must be an object with the fields {fields}")
        case "missing":
            return Problem(where, "this field is required")
        case "list_type":
            return Problem(where, "must be a text or a list of texts")
        case "too_short":
            return Problem(where, "at least one text is needed")
        case "string_pattern_mismatch":
            return Problem(where, "a text needs at least one character that is not a space")
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            value = detail["input"]
            shown = value if isinstance(value, str | int | float | bool) else None
            return Problem(where, message[0].lower() + message[1:], shown)


def _error_response(request: Request, error: ServiceError) -> Response:
    headers: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    content = problem_document(error, request.url.path)
    return JSONResponse(content, error.status, headers, PROBLEM_TYPE)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError), "registered for it alone"
    return _error_response(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it alone"
    if error.status_code == NotAllowedError.status:
        allowed = (error.headers or {}).get("Allow", "another method")
        text = f"{request.method} {request.url.path} is not allowed; use {allowed}"
        return _error_response(request, NotAllowedError(text))
    return _error_response(
        request, NoSuchPathError(f"there is no {request.url.path}; see /docs for what there is")
    )


async def _unexpected_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error_response(
        request, ServiceError("the request failed inside the server; its log says why")
    )

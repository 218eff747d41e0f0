"""What routes have in common: parameters, answers, and jobs that the caller may see."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Path, Query, Request, Response
from pydantic import BaseModel

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.service.api.access import Caller
from ratchet.service.api.backend import Backend
from ratchet.service.api.problems import invalid_request
from ratchet.service.api.request_log import note_of
from ratchet.service.errors import JobNotFoundError
from ratchet.service.schemas.jobs import Kind
from ratchet.service.store.jobs import get_job
from ratchet.service.store.records import Job

MAX_PAGE = 100
MAX_METADATA = 16

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many at most")]
After = Annotated[str | None, Query(max_length=200, description="`last_id` of the page before")]
Id = Annotated[str, Path(min_length=1, max_length=200)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        pattern=r"^[ -~]+$",
        description="The same key and body lead to the same job",
    ),
]

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)]

STREAM_TYPE = "text/event-stream"
STREAMED: dict[int | str, JsonObject] = {
    200: {"content": {STREAM_TYPE: {"schema": {"type": "string"}}}}
}
"""What the OpenAPI document says of a list that can be had as a stream too."""

_METADATA = re.compile(r"^metadata\[(.{1,64})\]$")


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as an answer: written by pydantic at once, not validated a second time."""
    return Response(model.model_dump_json(), status, headers, "application/json")


def wants_stream(request: Request) -> bool:
    """Whether the client asks for server-sent events."""
    return STREAM_TYPE in request.headers.get("accept", "")


def metadata_of(request: Request) -> dict[str, str]:
    """The pairs that a list is restricted to, from `metadata[name]=value`.

    Raises:
        InvalidRequestError: There are more than a job can have.
    """
    found = {
        match[1]: value
        for name, value in request.query_params.multi_items()
        if (match := _METADATA.match(name))
    }
    if len(found) > MAX_METADATA:
        raise invalid_request([Problem("", f"metadata: at most {MAX_METADATA} pairs")])
    return found


def visible_job(backend: Backend, caller: Caller, job_id: str, kind: Kind, request: Request) -> Job:
    """A job of a kind whose lineage exists for the caller.

    Raises:
        JobNotFoundError: There is no such job for this caller.
    """
    job = get_job(backend.db, job_id)
    if job.kind != kind or not caller.sees(job.lineage):
        raise JobNotFoundError(f"job: there is no {job_id!r}", param="id")
    note_of(request.scope).job = job.id
    return job


def number_of(after: str | None, prefix: str) -> int | None:
    """The number at the end of an id of a list.

    Raises:
        InvalidRequestError: It is no id of that list.
    """
    if after is None:
        return None
    digits = after.removeprefix(prefix)
    if digits == after or not digits.isdecimal() or len(digits) > 9:
        raise invalid_request([Problem("", "after: no id of this list", after[:80])])
    return int(digits)

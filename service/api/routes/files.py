"""Uploads, in OpenAI's dialect."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.service.api.access import Submitter, Viewer, audit
from ratchet.service.api.backend import Injected
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.openai_views import file_view
from ratchet.service.api.routes.parameters import After, Id, answer
from ratchet.service.api.submissions import own_file
from ratchet.service.api.uploads import (
    LABELLED,
    PURPOSE,
    check_place,
    forget_upload,
    keep_upload,
    receive,
)
from ratchet.service.api.views import page_of
from ratchet.service.errors import FileNotStoredError, NotStoredError
from ratchet.service.schemas.jobs import Page
from ratchet.service.schemas.openai import FileDeletion, FileView
from ratchet.service.store.files import list_files
from ratchet.service.store.records import File

MAX_FILES = 10_000
BINARY = "application/octet-stream"

router = APIRouter(prefix="/v1/files", tags=["openai"], route_class=GuardedRoute)

_FORM: JsonObject = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [PURPOSE]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


@router.post("", response_model=FileView, openapi_extra=_FORM)
async def upload(request: Request, backend: Injected, caller: Submitter) -> Response:
    """Upload rows to learn from: JSON lines, CSV, TSV, Parquet or text."""
    await run_in_threadpool(check_place, backend, caller.key)
    given = await receive(request, backend.settings.max_upload_bytes)
    try:
        name = given.filename or ""
        file = await run_in_threadpool(keep_upload, backend, given.file, name, caller.key)
    finally:
        await given.close()
    detail = {"sha256": file.sha256, "bytes": file.bytes}
    await run_in_threadpool(audit, backend, caller, "file.create", file.id, detail)
    return answer(file_view(file))


@router.get("", response_model=Page[FileView])
def list_all(
    backend: Injected,
    caller: Viewer,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_FILES)] = 1000,
    purpose: Annotated[str | None, Query(max_length=64)] = None,
    order: Literal["asc", "desc"] = "desc",
    sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
) -> Response:
    """The caller's uploads, or an admin's: all. Of a content, the caller's own alone."""
    found: list[File] = []
    if purpose in (None, PURPOSE):
        # Who looks for a content is about to name it: others' uploads may go at any moment.
        sees_all = caller.key.may("admin") and sha256 is None
        owner = None if sees_all else caller.key.id
        found = list_files(
            backend.db,
            purpose=PURPOSE,
            key_id=owner,
            sha256=sha256,
            after=after,
            limit=limit + 1,
            oldest_first=order == "asc",
        )
    return answer(page_of(found, limit, file_view, lambda file: file.id))


@router.get("/{file_id}", response_model=FileView)
def get_one(file_id: Id, backend: Injected, caller: Viewer) -> Response:
    """An upload."""
    return answer(file_view(_visible(backend, caller, file_id)))


@router.get(
    "/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
def content(file_id: Id, backend: Injected, caller: Viewer) -> FileResponse:
    """What was uploaded."""
    file = _visible(backend, caller, file_id)
    path = backend.blobs.path(file)
    if not path.is_file():
        raise NotStoredError(f"file: the content of {file.id} is gone; upload it again", "file")
    headers = {"X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type=BINARY, filename=file.filename, headers=headers)


@router.delete("/{file_id}", response_model=FileDeletion)
def delete(file_id: Id, backend: Injected, caller: Submitter) -> Response:
    """Delete an upload that no unfinished job reads."""
    file = _visible(backend, caller, file_id)
    forget_upload(backend, file)
    audit(backend, caller, "file.delete", file.id, {"sha256": file.sha256})
    return answer(FileDeletion(id=file.id))


def _visible(backend: Injected, caller: Viewer, file_id: str) -> File:
    file = own_file(backend, caller, file_id)
    if file.purpose == LABELLED:
        raise FileNotStoredError(f"file: there is no {file_id!r}", param="file")
    return file

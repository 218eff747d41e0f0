"""Uploads: received, looked at, kept by their content, and forgotten."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ratchet.pipelines.errors import Problem
from ratchet.service.api.backend import Backend
from ratchet.service.api.chats import labelled_texts
from ratchet.service.api.file_content import content_problems
from ratchet.service.api.problems import invalid_request
from ratchet.service.errors import InvalidTransitionError, TooLargeError, UnsupportedTypeError
from ratchet.service.inputs.blobs import Draft, chunks, filename_problem
from ratchet.service.store.files import bytes_of_key, create_file, delete_file, find_file
from ratchet.service.store.jobs import living_job_with
from ratchet.service.store.records import File, Key

PURPOSE = "fine-tune"
LABELLED = "labelled"
"""Purpose of a file that was made of chats; such files are not listed."""
FORM_BYTES = 64 * 1024
"""What the form may hold beside the file."""


async def receive(request: Request, max_bytes: int) -> UploadFile:
    """The file of a form, read no further than the limit; the caller closes it.

    Raises:
        InvalidRequestError: The form is broken, or lacks something.
        TooLargeError: There is more of it than may be.
        UnsupportedTypeError: It is no form.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedTypeError("Content-Type: send multipart/form-data")
    parser = MultiPartParser(
        request.headers,
        _bounded(request, max_bytes + FORM_BYTES),
        max_files=1,
        max_fields=8,
        max_part_size=FORM_BYTES,
    )
    try:
        form = await parser.parse()
    except TooLargeError:
        raise  # it is a ValueError, and a form that is too long is not broken
    except (MultiPartException, ValueError, KeyError, UnicodeDecodeError) as error:
        raise invalid_request([Problem("", f"the form is broken: {error}")]) from error
    file, purpose = form.get("file"), form.get("purpose")
    problems: list[Problem] = []
    if not isinstance(file, UploadFile):
        problems.append(Problem("file", "this field is required, with a file in it"))
    if purpose != PURPOSE:
        shown = purpose[:80] if isinstance(purpose, str) else None
        problems.append(Problem("purpose", f"should be {PURPOSE}", shown))
    unknown = sorted({name for name in form if name not in ("file", "purpose")})
    problems += [Problem(name[:80], "unknown field") for name in unknown]
    if problems or not isinstance(file, UploadFile):
        await form.close()
        raise invalid_request(problems)
    return file


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    count = 0
    async for chunk in request.stream():
        count += len(chunk)
        if count > max_bytes:
            raise TooLargeError(f"file: more than {max_bytes - FORM_BYTES} bytes", "file")
        yield chunk


def check_place(backend: Backend, key: Key) -> None:
    """Make sure that the disk and the key have a place for an upload, before it is read.

    Raises:
        TooLargeError: The key holds as much as it may; an admin's may hold anything.
        UnavailableError: The disk is almost full.
    """
    backend.blobs.check_room()
    _check_share(backend, key, 1)


def _check_share(backend: Backend, key: Key, num_bytes: int) -> None:
    if key.may("admin"):
        return
    most, held = backend.settings.max_key_bytes, bytes_of_key(backend.db, key.id)
    if held + num_bytes > most:
        raise TooLargeError(
            f"file: the uploads of the key {key.prefix} have {held} bytes, and with this one they "
            f"would have more than {most}; delete some",
            "file",
        )


def keep_upload(backend: Backend, source: BinaryIO, filename: str, key: Key) -> File:
    """Check a content and keep it.

    Raises:
        InvalidRequestError: Its name or its rows are not what can be learned from.
        TooLargeError: It is too long, or too much for the key.
    """
    if problem := filename_problem(filename):
        raise invalid_request([Problem("file", problem.message, problem.value)])
    with backend.blobs.draft(chunks(source)) as draft:
        if problems := content_problems(draft.path, filename):
            raise invalid_request([Problem("file", str(problem)) for problem in problems])
        with backend.blobs.settled():
            _check_share(backend, key, draft.num_bytes)
            return _kept(backend, draft, filename, PURPOSE, key.id)


def labelled_file(backend: Backend, file: File) -> File:
    """The labelled texts of an upload of chats; made once.

    Raises:
        DataError: Rows that are no such chats.
    """
    name = f"{file.id}.jsonl"
    known = find_file(backend.db, name, LABELLED)
    if known is not None:
        return known
    lines: Iterator[bytes] = labelled_texts(backend.blobs.path(file))
    with backend.blobs.draft(lines) as draft, backend.blobs.settled():
        return _kept(backend, draft, name, LABELLED, file.key_id)


def forget_upload(backend: Backend, file: File) -> None:
    """Delete an upload, what was made of it, and contents that nothing names any more.

    Raises:
        InvalidTransitionError: A job that has not ended reads it.
    """
    job = living_job_with(backend.db, file.id)
    if job is not None:
        raise InvalidTransitionError(
            f"file: {job.id} is {job.status} and reads {file.id}; cancel it first", "file"
        )
    made = find_file(backend.db, f"{file.id}.jsonl", LABELLED)
    for one in (file, made):
        if one is not None:
            _forget(backend, one)


def _kept(backend: Backend, draft: Draft, filename: str, purpose: str, key_id: str | None) -> File:
    backend.blobs.keep(draft, filename)
    return create_file(backend.db, draft.sha256, filename, purpose, draft.num_bytes, key_id)


def _forget(backend: Backend, file: File) -> None:
    with backend.blobs.settled():
        if delete_file(backend.db, file.id).is_last:
            backend.blobs.remove(file)

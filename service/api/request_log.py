"""One structured log line, one id and one count a request."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ratchet.pipelines.files.json_value import JsonObject

NOTE = "ratchet.note"
REQUEST_ID = "X-Request-ID"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_SANE_ID = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_log = logging.getLogger("ratchet.api")

Observer = Callable[[str, str, int, float], None]
"""Takes method, route, status and seconds."""


@dataclass
class RequestNote:
    """What is learned of a request on its way.

    Attributes:
        request_id: Its id: the client's own, if that is a sane one.
        key_prefix: The public part of its key.
        headers: Fields that the answer gets whatever becomes of the request.
        job: The job that it was about.
        status: Of the answer.
        started_after: Seconds until the answer began.
    """

    request_id: str
    key_prefix: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    job: str | None = None
    status: int = 500
    started_after: float | None = None


def note_of(scope: Scope) -> RequestNote:
    """The note of a request."""
    note = scope[NOTE]
    assert isinstance(note, RequestNote), "the middleware has put it there"
    return note


class RequestLog:
    """The outermost layer: makes the note, and writes it down at the end.

    Args:
        app: What is inside.
        observe: Is told of every request.
    """

    def __init__(self, app: ASGIApp, observe: Observer) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        note = RequestNote(given if _SANE_ID.match(given) else secrets.token_hex(8))
        scope[NOTE] = note
        start = time.perf_counter()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note.status = message["status"]
                note.started_after = time.perf_counter() - start
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = note.request_id
                headers.update(note.headers)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._finish(scope, note, time.perf_counter() - start)

    def _finish(self, scope: Scope, note: RequestNote, seconds: float) -> None:
        route = getattr(scope.get("route"), "path_format", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._observe(method, route, note.status, note.started_after or seconds)
        client = scope.get("client")
        line: JsonObject = {
            "request": note.request_id,
            "method": method,
            "route": route,
            "path": scope["path"][:200],
            "status": note.status,
            "seconds": round(seconds, 4),
            "key": note.key_prefix,
            "job": note.job,
            "address": client[0] if client else None,
        }
        _log.info(json.dumps({name: value for name, value in line.items() if value is not None}))

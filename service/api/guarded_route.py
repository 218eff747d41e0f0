# pyright: reportPrivateUsage=false
"""Routes behind a key: who asks is known before a byte of the body is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from ratchet.service.api.access import admit, needed_roles
from ratchet.service.api.plain_values import parse_json
from ratchet.service.api.request_log import note_of
from ratchet.service.errors import InvalidRequestError, TooLargeError, UnsupportedTypeError

MAX_JSON_BYTES = 1024 * 1024
QUICK_BYTES = 16 * 1024
"""Up to here a body is read in a moment; what is longer does not keep others waiting."""
BODY_SECONDS = 60
"""How long a body of JSON may take to arrive: whoever sends slower keeps a connection busy."""


class GuardedRoute(APIRoute):
    """A route that admits keys with requests left, and reads JSON strictly."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The handler, guarded."""
        inner = super().get_route_handler()
        reads_json = self.body_field is not None
        roles = needed_roles(self.dependant)

        async def handle(request: Request) -> Response:
            _refuse_odd_address(request)
            caller = await admit(request)
            for role in roles:
                caller.require(role)
            if reads_json:
                await _read_json(request)
            return await inner(request)

        return handle


def _refuse_odd_address(request: Request) -> None:
    """Refuse what no name here holds and no database can compare."""
    query = request.scope["query_string"].lower()
    if "\0" in request.url.path or b"%00" in query or b"\0" in query:
        raise InvalidRequestError("the address holds a NUL character")


async def _read_json(request: Request) -> None:
    """Read the body, no further than the limit, and leave its values where FastAPI finds them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise UnsupportedTypeError(
            f"Content-Type: {kind or 'nothing'} is not read here; send application/json"
        )
    request._body = await _body(request)
    if len(request._body) > QUICK_BYTES:
        request._json = await run_in_threadpool(parse_json, request._body)
    else:
        request._json = parse_json(request._body)


async def _body(request: Request) -> bytes:
    """The body, within the limits of length and time; one that is too slow ends the connection."""
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise TooLargeError(f"body: more than {MAX_JSON_BYTES} bytes")
    except TimeoutError as error:
        note_of(request.scope).headers["Connection"] = "close"
        raise InvalidRequestError(
            f"body: not all of it came within {BODY_SECONDS} s; send it again"
        ) from error
    return bytes(body)

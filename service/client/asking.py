"""Sending a request until it is answered: what may be repeated is, with growing pauses."""

from __future__ import annotations

import random

import httpx

from ratchet.service.client.failures import error_of, retry_after, unreachable
from ratchet.service.client.steps import Call, Pause, Steps

PAUSES_SECONDS = (0.1, 0.4, 1.2)
LONGEST_PAUSE_SECONDS = 10.0
FULL = 429
"""The server says that it did nothing."""

AWAY = 503
"""The same, mostly: its database may have gone away in the moment of the commit."""

BROKEN = (500, 502, 504)
"""The server, or one before it, may have done something."""


def asked(call: Call) -> Steps[httpx.Response]:
    """The answer to a request.

    A request that never arrived is sent again, and so is one that the server had no place for; one
    whose answer was lost only where it is repeatable.

    Raises:
        ServiceError: The answer is a refusal, or there is none.
    """
    for pause in PAUSES_SECONDS:
        try:
            response: httpx.Response = yield call
        except httpx.TransportError as error:
            if not (call.repeatable or _never_arrived(error)):
                raise unreachable(_url(error, call), error) from error
            yield Pause(_spread(pause))
            continue
        if response.status_code < 400:
            return response
        wait = _wait(call, response, pause)
        if wait is None:
            raise error_of(response)
        yield Pause(wait)
    return (yield from _asked_once(call))


def _asked_once(call: Call) -> Steps[httpx.Response]:
    try:
        response: httpx.Response = yield call
    except httpx.TransportError as error:
        raise unreachable(_url(error, call), error) from error
    if response.status_code < 400:
        return response
    raise error_of(response)


def _wait(call: Call, response: httpx.Response, pause: float) -> float | None:
    """Seconds until the request is sent again; None where it must not be."""
    if response.status_code == FULL or (response.status_code == AWAY and call.repeatable):
        wanted = retry_after(response)
        if wanted is None and response.status_code == AWAY:
            return _spread(pause)  # no answer of the API's own: it has too many connections
        if wanted is None or wanted > LONGEST_PAUSE_SECONDS:
            return None  # a full quota, say: that is for the user to know now
        return _spread(max(wanted, pause))
    return _spread(pause) if call.repeatable and response.status_code in BROKEN else None


def _never_arrived(error: httpx.TransportError) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _url(error: httpx.TransportError, call: Call) -> httpx.URL | str:
    try:
        return error.request.url
    except RuntimeError:  # how httpx says that none was set
        return call.path


def _spread(seconds: float) -> float:
    """A pause of about so long, so that many clients do not come back at once."""
    return seconds * random.uniform(0.8, 1.2)

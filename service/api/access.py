"""Who asks, and what they may: keys, roles, lineages."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from ratchet.pipelines.files.json_value import Json
from ratchet.service.api.backend import Backend, backend_of
from ratchet.service.api.rate_limits import Allowance
from ratchet.service.api.request_log import note_of
from ratchet.service.errors import ForbiddenError, KeyRefusedError, RateLimitedError
from ratchet.service.store import audit as audit_trail
from ratchet.service.store.keys import authenticate
from ratchet.service.store.records import ROLES, Key, Role

_SECRET = re.compile(r"^rk_[0-9a-f]{8}_[A-Za-z0-9_-]{43}$")
_BEARER = HTTPBearer(auto_error=False, description="An API key, as `ratchet keys create` made it")


@dataclass(frozen=True)
class Caller:
    """The key of a request, and where the request came from."""

    key: Key
    address: str

    def require(self, role: Role) -> None:
        """Refuse a key of a lesser role.

        Raises:
            ForbiddenError: It is one.
        """
        if not self.key.may(role):
            raise ForbiddenError(
                f"the key {self.key.prefix} has the role {self.key.role}, and this needs {role}; "
                "ask an admin for another key"
            )

    def sees(self, lineage: str | None) -> bool:
        """Whether a lineage exists for this key."""
        return self.key.may("admin") or self.key.sees(lineage)

    @property
    def globs(self) -> tuple[str, ...]:
        """The lineages that exist for this key."""
        return ("*",) if self.key.may("admin") else tuple(self.key.lineages)


async def admit(request: Request) -> Caller:
    """Find out who asks, and whether the key has requests left.

    Raises:
        KeyRefusedError: There is no key, or one that is not known.
        RateLimitedError: The key has sent too many requests.
    """
    backend = backend_of(request)
    key = await run_in_threadpool(authenticate, backend.db, _secret(request))
    if key is None:
        raise KeyRefusedError("the API key is unknown or was revoked; ask an admin for another")
    note = note_of(request.scope)
    note.key_prefix = key.prefix
    allowance = _allowance(backend, key)
    note.headers.update(allowance.headers())
    if not allowance.allowed:
        raise RateLimitedError(
            f"the key {key.prefix} may send {allowance.limit} requests a minute; "
            f"wait {allowance.retry_after_seconds} s"
        )
    caller = Caller(key, request.client.host if request.client else "")
    request.state.caller = caller
    return caller


def _allowance(backend: Backend, key: Key) -> Allowance:
    own = key.requests_per_minute
    per_minute = backend.settings.requests_per_minute if own is None else own
    return backend.limits.take(key.id, per_minute)


def _secret(request: Request) -> str:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _SECRET.match(secret.strip()):
        raise KeyRefusedError(
            "give an API key in the field `Authorization: Bearer rk_…`; "
            "`ratchet keys create` makes one"
        )
    return secret.strip()


def _needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    async def check(request: Request, _bearer: Annotated[object, Security(_BEARER)]) -> Caller:
        caller: Caller = request.state.caller
        caller.require(role)
        return caller

    return check  # pyright: ignore[reportReturnType]


_CHECKS: Mapping[Role, Callable[[Request], Awaitable[Caller]]] = {
    role: _needs(role) for role in ROLES
}
Viewer = Annotated[Caller, Depends(_CHECKS["viewer"])]
Submitter = Annotated[Caller, Depends(_CHECKS["submitter"])]
Promoter = Annotated[Caller, Depends(_CHECKS["promoter"])]
Admin = Annotated[Caller, Depends(_CHECKS["admin"])]


def needed_roles(route: Dependant) -> list[Role]:
    """The roles that a route's parameters ask for."""
    calls = [needed.call for needed in route.dependencies]
    return [role for role, check in _CHECKS.items() if check in calls]


def audit(
    backend: Backend, caller: Caller, action: str, target: str, detail: Mapping[str, Json]
) -> None:
    """Write down who changed what."""
    key_id, address = caller.key.id, caller.address
    audit_trail.record(backend.db, action, target, key_id=key_id, detail=detail, address=address)

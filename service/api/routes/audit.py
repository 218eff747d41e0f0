"""Who did what, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ratchet.service.api.access import Admin
from ratchet.service.api.backend import Injected
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.routes.parameters import After, Limit, answer, number_of
from ratchet.service.api.views import AUDIT_PREFIX, audit_entry_id, audit_entry_view, page_of
from ratchet.service.schemas.audit import AuditEntryView
from ratchet.service.schemas.jobs import Page
from ratchet.service.store.audit import list_audit

LAST_SECOND = 253_402_300_799
"""Of the year 9999."""

router = APIRouter(prefix="/v1", tags=["audit"], route_class=GuardedRoute)

Word = Annotated[str | None, Query(min_length=1, max_length=200)]
Since = Annotated[int | None, Query(ge=0, le=LAST_SECOND, description="In Unix seconds")]


@router.get("/audit", response_model=Page[AuditEntryView])
def audit(
    backend: Injected,
    _caller: Admin,
    key: Word = None,
    action: Word = None,
    target: Word = None,
    since: Since = None,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """The audit trail, newest first; of one key (its prefix or id), action or target only."""
    found = list_audit(
        backend.db,
        key=key,
        action=action,
        object_id=target,
        since=since,
        before=number_of(after, AUDIT_PREFIX),
        limit=limit + 1,
    )
    return answer(page_of(found, limit, audit_entry_view, audit_entry_id))

"""Lineages, their versions, and who is champion."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from ratchet.service.api.access import Caller, Promoter, Viewer
from ratchet.service.api.backend import Backend, Injected
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.routes.parameters import After, Id, Limit, answer, number_of
from ratchet.service.api.views import (
    lineage_view,
    page_of,
    promotion_id,
    promotion_view,
    version_id,
    version_view,
)
from ratchet.service.errors import LineageNotFoundError
from ratchet.service.schemas.jobs import (
    MAX_VERSION,
    LineageView,
    Me,
    Page,
    PromotionRequest,
    PromotionView,
    RollbackRequest,
    VersionView,
)
from ratchet.service.store.lineages import (
    ANY,
    Anything,
    get_lineage,
    get_version,
    list_lineages,
    list_promotions,
    list_versions,
    promote,
    rollback,
)
from ratchet.service.store.records import Lineage

router = APIRouter(prefix="/v1", tags=["lineages"], route_class=GuardedRoute)

LineageName = Annotated[str, Query(min_length=1, max_length=64, description="Whose")]
VersionNumber = Annotated[int, Path(ge=1, le=MAX_VERSION)]


@router.get("/lineages", response_model=Page[LineageView])
def lineages(
    backend: Injected, caller: Viewer, after: After = None, limit: Limit = 100
) -> Response:
    """The lineages, by name."""
    found = list_lineages(backend.db, caller.globs, after, limit + 1)
    return answer(page_of(found, limit, lineage_view, lambda lineage: lineage.name))


@router.get("/lineages/{name}", response_model=LineageView)
def lineage(name: Id, backend: Injected, caller: Viewer) -> Response:
    """A lineage as it is now."""
    return answer(lineage_view(_visible(backend, caller, name)))


@router.get("/versions", response_model=Page[VersionView])
def versions(
    lineage: LineageName,
    backend: Injected,
    caller: Viewer,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """The versions of a lineage, newest first."""
    owner = _visible(backend, caller, lineage)
    before = number_of(after, f"{lineage}@")
    found = list_versions(backend.db, owner.name, before, limit + 1)
    return answer(page_of(found, limit, lambda one: version_view(one, owner), version_id))


@router.get("/versions/{lineage}/{number}", response_model=VersionView)
def version(lineage: Id, number: VersionNumber, backend: Injected, caller: Viewer) -> Response:
    """A version."""
    owner = _visible(backend, caller, lineage)
    return answer(version_view(get_version(backend.db, owner.name, number), owner))


@router.get("/promotions", response_model=Page[PromotionView])
def promotions(
    lineage: LineageName,
    backend: Injected,
    caller: Viewer,
    after: After = None,
    limit: Limit = 100,
) -> Response:
    """The decisions about a lineage's champion, newest first."""
    owner = _visible(backend, caller, lineage)
    before = number_of(after, f"{lineage}#")
    found = list_promotions(backend.db, owner.name, before, limit + 1)
    return answer(page_of(found, limit, promotion_view, promotion_id))


@router.post("/promotions", status_code=201, response_model=PromotionView)
def create_promotion(body: PromotionRequest, backend: Injected, caller: Promoter) -> Response:
    """Make a version champion; serving follows a moment later."""
    owner = _visible(backend, caller, body.lineage)
    expected = _expected(body)
    made = promote(backend.db, owner.name, body.version, caller.key.id, expected, caller.address)
    return answer(promotion_view(made), 201)


@router.post("/rollbacks", status_code=201, response_model=PromotionView)
def create_rollback(body: RollbackRequest, backend: Injected, caller: Promoter) -> Response:
    """Make the champion before the present one champion again."""
    owner = _visible(backend, caller, body.lineage)
    made = rollback(backend.db, owner.name, caller.key.id, _expected(body), caller.address)
    return answer(promotion_view(made), 201)


@router.get("/me", response_model=Me)
def me(backend: Injected, caller: Viewer) -> Response:
    """What the key of this request may do."""
    key = caller.key
    own = key.requests_per_minute
    return answer(
        Me(
            prefix=key.prefix,
            name=key.name,
            role=key.role,
            lineages=key.lineages,
            requests_per_minute=backend.settings.requests_per_minute if own is None else own,
            max_running_jobs=key.max_running_jobs,
            max_queued_jobs=key.max_queued_jobs,
            created_at=int(key.created_at),
        )
    )


def _expected(body: PromotionRequest | RollbackRequest) -> int | None | Anything:
    """The champion that the caller expects; leaving it out and null are two things."""
    return body.expected_champion if "expected_champion" in body.model_fields_set else ANY


def _visible(backend: Backend, caller: Caller, name: str) -> Lineage:
    """A lineage that exists for the caller.

    Raises:
        LineageNotFoundError: There is none.
    """
    if not caller.sees(name):
        raise LineageNotFoundError(f"lineage: there is no {name!r}", param="lineage")
    return get_lineage(backend.db, name)

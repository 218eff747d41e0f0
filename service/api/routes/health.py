"""Whether the service lives, works, and how much it does; open to everyone who reaches the port."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ratchet.service.api.backend import Injected
from ratchet.service.api.routes.parameters import answer
from ratchet.service.errors import UnavailableError
from ratchet.service.schemas.jobs import Health, Readiness
from ratchet.service.store.jobs import count_jobs
from ratchet.service.store.leases import live_holder

CONTROLLER = "controller"
"""Name of the lease that a controller holds."""

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """Whether this process answers."""
    return Health()


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
def readyz(backend: Injected) -> Response:
    """Whether jobs can be taken and done: the database answers, and a controller is alive."""
    problems: list[str] = []
    has_database = is_controlled = False
    try:
        backend.db.check()
        has_database = True
        is_controlled = live_holder(backend.db, CONTROLLER) is not None
    except UnavailableError as error:
        problems.append(str(error))
    if has_database and not is_controlled:
        problems.append("no controller holds the lease: jobs wait; start `ratchet up`")
    is_ready = has_database and is_controlled
    return answer(
        Readiness(
            status="ready" if is_ready else "not_ready",
            database=has_database,
            controller=is_controlled,
            problems=problems,
        ),
        200 if is_ready else 503,
    )


@router.get("/metrics", response_class=Response)
def metrics(backend: Injected) -> Response:
    """The figures for Prometheus."""
    body = backend.metrics.render(count_jobs(backend.db))
    return Response(body, media_type=CONTENT_TYPE_LATEST)

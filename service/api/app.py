"""The app: routes, errors, limits and the log put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.service.api.backend import Backend
from ratchet.service.api.metrics import ApiMetrics
from ratchet.service.api.problems import PROBLEM_TYPE, handle_errors
from ratchet.service.api.rate_limits import RateLimits
from ratchet.service.api.request_log import RequestLog
from ratchet.service.api.routes import audit, files, fine_tuning, health, lineages, models
from ratchet.service.api.routes.jobs import job_routes
from ratchet.service.inputs.blobs import Blobs
from ratchet.service.inputs.data_uris import DataRoots
from ratchet.service.schemas.jobs import ProblemDocument
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database

NUM_THREADS = 16
"""Threads that wait for the database; more would only wait for the interpreter."""
_PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}
_REFUSALS: dict[int | str, JsonObject] = {
    "4XX": {"description": "Refused", "content": {PROBLEM_TYPE: {"schema": _PROBLEM}}},
    "5XX": {"description": "Failed", "content": {PROBLEM_TYPE: {"schema": _PROBLEM}}},
}


def create_app(settings: Settings, database: Database | None = None) -> FastAPI:
    """The job API.

    Args:
        settings: Where state lies, and what is allowed.
        database: The truth, with its tables laid out; without it, the app opens the one of the
            settings when it starts, lays the tables out, and closes it when it ends.
    """
    backend = Backend(
        settings=settings,
        db=database or Database(settings.database_url),
        roots=DataRoots(settings.data_roots, settings.home, settings.store),
        blobs=Blobs(settings.home, settings.max_upload_bytes),
        limits=RateLimits(),
        metrics=ApiMetrics(),
    )
    app = FastAPI(
        title="Ratchet",
        version="1",
        redoc_url=None,
        lifespan=_lifespan(backend, is_owner=database is None),
        responses=_REFUSALS,
    )
    app.state.backend = backend
    handle_errors(app)
    app.add_middleware(RequestLog, observe=backend.metrics.observe)
    for router in (
        job_routes("update", "/v1/updates"),
        job_routes("study", "/v1/studies"),
        job_routes("plan", "/v1/plans"),
        lineages.router,
        fine_tuning.router,
        files.router,
        models.router,
        audit.router,
        health.router,
    ):
        app.include_router(router)
    app.openapi = _documented(app)
    return app


def _lifespan(backend: Backend, *, is_owner: bool) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = NUM_THREADS
        if is_owner:
            await anyio.to_thread.run_sync(backend.db.migrate)
        try:
            yield
        finally:
            if is_owner:
                backend.db.dispose()

    return lifespan


def _documented(app: FastAPI) -> Callable[[], JsonObject]:
    """The OpenAPI document, with the form of every error in it."""

    def openapi() -> JsonObject:
        if not app.openapi_schema:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            template = "#/components/schemas/{model}"
            schema = ProblemDocument.model_json_schema(ref_template=template)
            schemas = document["components"]["schemas"]
            schemas |= schema.pop("$defs")
            schemas["ProblemDocument"] = schema
            app.openapi_schema = document
        return app.openapi_schema

    return openapi

"""What the routes stand on: one object an app, made when the app is made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from ratchet.service.api.metrics import ApiMetrics
from ratchet.service.api.rate_limits import RateLimits
from ratchet.service.inputs.blobs import Blobs
from ratchet.service.inputs.data_uris import DataRoots
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database


@dataclass(frozen=True)
class Backend:
    """The parts of an app.

    Attributes:
        settings: What it was started with.
        db: The truth.
        roots: Where data may lie.
        blobs: Where uploads lie.
        limits: What each key may still send.
        metrics: What is counted.
        streams_by_key: Open event streams by the key's id; used from the event loop alone.
    """

    settings: Settings
    db: Database
    roots: DataRoots
    blobs: Blobs
    limits: RateLimits
    metrics: ApiMetrics
    streams_by_key: Counter[str] = field(default_factory=Counter[str])


def backend_of(request: Request) -> Backend:
    """The parts of the app that a request came to."""
    backend = request.app.state.backend
    assert isinstance(backend, Backend), "create_app has put it there"
    return backend


async def _injected(request: Request) -> Backend:
    return backend_of(request)


Injected = Annotated[Backend, Depends(_injected)]

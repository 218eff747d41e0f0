"""What a fine-tuning request can name as its `model`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from ratchet.service.api.access import Viewer
from ratchet.service.api.backend import Injected
from ratchet.service.api.base_models import unknown_model
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.routes.parameters import Id, answer
from ratchet.service.api.spec_check import short_names
from ratchet.service.api.views import version_id
from ratchet.service.errors import LineageNotFoundError, VersionNotFoundError
from ratchet.service.schemas.openai import ModelListing, ModelView
from ratchet.service.store.lineages import (
    get_lineage,
    get_version,
    list_all_versions,
    list_lineages,
)
from ratchet.service.store.records import Lineage, Version

MAX_MODELS = 1000

router = APIRouter(prefix="/v1/models", tags=["openai"], route_class=GuardedRoute)


@router.get("", response_model=ModelListing)
def list_all(backend: Injected, caller: Viewer) -> Response:
    """Base models, lineages and versions, the newest versions first."""
    lineages = list_lineages(backend.db, caller.globs, limit=MAX_MODELS)
    known = {lineage.name: lineage for lineage in lineages}
    versions = list_all_versions(backend.db, caller.globs, MAX_MODELS)
    return answer(
        ModelListing(
            data=[
                *(_base(name) for name in short_names()),
                *(_lineage(lineage) for lineage in lineages),
                *(_version(one, known[one.lineage]) for one in versions if one.lineage in known),
            ]
        )
    )


@router.get("/{model:path}", response_model=ModelView)
def get_one(model: Id, backend: Injected, caller: Viewer) -> Response:
    """A base model, a lineage or a version."""
    name, at, number = model.partition("@")
    if not at and name in short_names():
        return answer(_base(name))
    if not caller.sees(name) or (at and not (number.isdecimal() and len(number) <= 9)):
        raise unknown_model(model)
    try:
        lineage = get_lineage(backend.db, name)
        if not at:
            return answer(_lineage(lineage))
        return answer(_version(get_version(backend.db, name, int(number)), lineage))
    except (LineageNotFoundError, VersionNotFoundError) as error:
        raise unknown_model(model) from error


def _base(name: str) -> ModelView:
    return ModelView(id=name, created=0, root=name, parent=None)


def _lineage(lineage: Lineage) -> ModelView:
    champion = f"@{lineage.champion}" if lineage.champion is not None else ""
    return ModelView(
        id=lineage.name,
        created=int(lineage.created_at),
        root=f"{lineage.name}{champion}",
        parent=_base_name(lineage),
    )


def _version(version: Version, lineage: Lineage) -> ModelView:
    name = version_id(version)
    created = int(version.created_at)
    return ModelView(id=name, created=created, root=name, parent=_base_name(lineage))


def _base_name(lineage: Lineage) -> str | None:
    name = (lineage.base or {}).get("name")
    return name if isinstance(name, str) else None

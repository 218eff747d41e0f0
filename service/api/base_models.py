# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""What a fine-tuning request's `model` stands for: a lineage to go on with, or a base model."""

from __future__ import annotations

from collections.abc import Mapping

from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.service.api.access import Caller
from ratchet.service.api.backend import Backend
from ratchet.service.api.request_entry import request_entry
from ratchet.service.api.spec_check import is_model_name
from ratchet.service.errors import (
    InvalidRequestError,
    LineageNotFoundError,
    UnknownModelError,
    VersionNotFoundError,
)
from ratchet.service.schemas.version_facts import VersionFacts
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.lineages import get_lineage, get_version, list_versions
from ratchet.service.store.records import Job

KEPT = (
    "model",
    "scenario",
    "data",
    "preset",
    "methods",
    "training",
    "scaling",
    "gate",
    "routing",
    "stability_decay",
)
"""Sections of a lineage's last spec that its next update takes over."""
RATES = ("learning_rate", "head_learning_rate")
"""What a request's `learning_rate_multiplier` multiplies."""


def known_lineage(backend: Backend, caller: Caller, model: str) -> str | None:
    """The lineage that a `model` names, or None where it names none.

    Raises:
        UnknownModelError: It names a version that there is not.
        InvalidRequestError: It names another version than the champion, where updates start.
    """
    name, at, number = model.partition("@")
    if not caller.sees(name) or not _exists(backend, name):
        if at:
            raise unknown_model(model)
        return None
    if at:
        _check_version(backend, model, name, number)
    return name


def unknown_model(model: str) -> UnknownModelError:
    """The refusal of a `model` that names nothing."""
    return UnknownModelError(
        f"model: {model[:80]!r} is no lineage, version or base model here; see GET /v1/models",
        "model",
    )


def check_base_model(model: str) -> None:
    """Refuse what cannot be a base model.

    Raises:
        UnknownModelError: It has not the form of one.
    """
    if not model.startswith("/") and not is_model_name(model):
        raise unknown_model(model)


def last_settings(backend: Backend, lineage: str) -> JsonObject:
    """How the lineage was taught last: the sections of a spec that say so.

    Raises:
        UnknownModelError: It is not known how.
    """
    job = _last_update(backend, lineage)
    if job is not None:
        settings = {name: job.spec[name] for name in KEPT if name in job.spec}
        return settings | _own_rates(job, settings)
    for version in list_versions(backend.db, lineage, limit=1):
        return _of_manifest(version.manifest)
    raise UnknownModelError(
        f"model: how {lineage} was taught is not known; submit its next spec to /v1/updates",
        "model",
    )


def _own_rates(job: Job, settings: Mapping[str, Json]) -> JsonObject:
    """The section `training` as it was before the job's request multiplied its rates.

    A multiplier is of one job: the next one begins from the lineage's own rates again.
    """
    request, training = request_entry(job), settings.get("training")
    if request is None or request.rates is None or not isinstance(training, Mapping):
        return {}
    rest = {name: value for name, value in training.items() if name not in RATES}
    return {"training": {**rest, **request.rates}}


def _exists(backend: Backend, name: str) -> bool:
    try:
        get_lineage(backend.db, name)
    except LineageNotFoundError:
        return bool(list_jobs(backend.db, kind="update", lineage=name, limit=1))
    return True


def _check_version(backend: Backend, model: str, lineage: str, number: str) -> None:
    if not number.isdecimal() or len(number) > 9:
        raise unknown_model(model)
    try:
        get_version(backend.db, lineage, int(number))
    except VersionNotFoundError as error:
        raise unknown_model(model) from error
    champion = get_lineage(backend.db, lineage).champion
    if champion != int(number):
        start = "its base model" if champion is None else f"its champion, {lineage}@{champion}"
        raise InvalidRequestError(
            f"model: the next update of {lineage} starts from {start}. "
            f"Name {lineage!r} to go on from there, or promote version {int(number)} first",
            "model",
        )


def _last_update(backend: Backend, lineage: str) -> Job | None:
    """The last update that succeeded, or else the last one."""
    taught = list_jobs(
        backend.db, kind="update", lineage=lineage, status="succeeded", limit=1
    ) or list_jobs(backend.db, kind="update", lineage=lineage, limit=1)
    return taught[0] if taught else None


def _of_manifest(facts: VersionFacts) -> JsonObject:
    base = facts.base_model
    model = {name: base[name] for name in ("name", "kind", "pooling", "dtype") if base.get(name)}
    methods: JsonObject = {"methods": facts.methods} if facts.methods else {}
    return {"model": model, "scenario": facts.scenario, **methods}

# pyright: reportUnknownVariableType=false
"""A spec from a request made into a job in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json
from ratchet.service.api.access import Caller
from ratchet.service.api.backend import Backend
from ratchet.service.api.plain_values import parse_spec_yaml
from ratchet.service.api.problems import invalid_request, invalid_spec
from ratchet.service.api.spec_check import SpecRules
from ratchet.service.api.views import RESERVED
from ratchet.service.errors import FileNotStoredError
from ratchet.service.schemas.jobs import Kind, Submission
from ratchet.service.store.files import get_file
from ratchet.service.store.records import File, Job, NewEvent, NewJob
from ratchet.service.store.submitting import create_job


@dataclass(frozen=True)
class Asked:
    """What a caller asks for, in either dialect.

    Attributes:
        kind: What kind of job.
        raw: The spec, not checked yet.
        where: The field of the body that the spec came in; problems are told below it.
        metadata: What the job is kept with.
        told: What its events begin with.
        request: The body as it was sent.
    """

    kind: Kind
    raw: Mapping[str, Json]
    where: str = "spec"
    priority: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    told: tuple[NewEvent, ...] = ()
    request: Mapping[str, Json] | None = None


def raw_spec(body: Submission) -> tuple[Mapping[str, Json], str]:
    """The spec of a body, and the field that it is in.

    Raises:
        InvalidSpecError: It is not YAML, or no mapping.
    """
    if body.spec is not None:
        return body.spec, "spec"
    try:
        raw = parse_spec_yaml(body.spec_yaml or "", "spec_yaml")
    except SpecError as error:
        raise invalid_spec(error.problems) from error
    if not isinstance(raw, Mapping):
        raise invalid_spec([Problem("spec_yaml", "a spec is a mapping of fields")])
    return raw, "spec_yaml"


def submit(backend: Backend, caller: Caller, asked: Asked) -> Job:
    """Check a spec and queue a job, or find the one that the same request made before.

    Raises:
        InvalidRequestError: Metadata that is reserved.
        InvalidSpecError: With everything that is wrong with the spec.
        IdempotencyMismatchError: The idempotency key came before with another body.
        QuotaExceededError: The key has as many jobs in the queue as it may.
    """
    rules = SpecRules(
        roots=backend.roots,
        upload=lambda file_id: _blob(backend, caller, file_id),
        sees=caller.sees,
        is_study=asked.kind == "study",
    )
    try:
        checked = rules.check(asked.raw)
    except SpecError as error:
        raise invalid_spec([_below(asked.where, problem) for problem in error.problems]) from error
    new = NewJob(
        kind=asked.kind,
        spec=checked.raw,
        lineage=checked.spec.lineage,
        priority=asked.priority,
        key_id=caller.key.id,
        metadata=asked.metadata,
        told=asked.told,
        request=asked.request,
    )
    return create_job(backend.db, new, asked.idempotency_key, address=caller.address).job


def refuse_reserved(metadata: Mapping[str, str]) -> None:
    """Refuse entries that the API keeps for itself.

    Raises:
        InvalidRequestError: There are some.
    """
    taken = [name for name in metadata if name.startswith(RESERVED)]
    if taken:
        message = f"names that begin with {RESERVED} are reserved"
        raise invalid_request([Problem("metadata", message, taken[0])])


def own_file(backend: Backend, caller: Caller, file_id: str) -> File:
    """An upload of the caller's; an admin's are all.

    Raises:
        FileNotStoredError: There is no such upload for this caller.
    """
    file = get_file(backend.db, file_id)
    if file.key_id != caller.key.id and not caller.key.may("admin"):
        raise FileNotStoredError(f"file: there is no {file_id!r}", param="file")
    return file


def _blob(backend: Backend, caller: Caller, file_id: str) -> Path | None:
    try:
        return backend.blobs.path(own_file(backend, caller, file_id))
    except FileNotStoredError:
        return None


def _below(where: str, problem: Problem) -> Problem:
    """A problem of a spec, told of the body's field that holds the spec."""
    if where != "spec":
        told = str(problem) if problem.where else problem.message
        return Problem(where, told)
    inside = f"{where}.{problem.where}" if problem.where else where
    return replace(problem, where=inside)

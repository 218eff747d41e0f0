"""What a user may ask of a job: to cancel, to pause, to resume; the same in both dialects."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ratchet.service.api.access import Submitter
from ratchet.service.api.backend import Backend, Injected
from ratchet.service.api.routes.parameters import Id, answer, visible_job
from ratchet.service.schemas.jobs import Kind
from ratchet.service.store.asking import Request as JobAction
from ratchet.service.store.asking import ask
from ratchet.service.store.records import Job

JOB_ACTIONS: tuple[JobAction, ...] = ("cancel", "pause", "resume")


def add_job_actions(
    router: APIRouter,
    kind: Kind,
    model: type[BaseModel],
    shown: Callable[[Backend, Job], BaseModel],
) -> None:
    """Add a route for each wish.

    Args:
        router: Where the jobs' routes are.
        kind: The kind of the jobs.
        model: What a job looks like in the dialect.
        shown: Makes a job look so.
    """

    def add(action: JobAction) -> None:
        @router.post(f"/{{job_id}}/{action}", response_model=model, name=action)
        def tell(job_id: Id, request: Request, backend: Injected, caller: Submitter) -> Response:
            """Ask the job to cancel, pause or resume; one that runs does so a moment later."""
            job = visible_job(backend, caller, job_id, kind, request)
            job = ask(backend.db, job.id, action, caller.key.id, caller.address)
            return answer(shown(backend, job))

    for action in JOB_ACTIONS:
        add(action)

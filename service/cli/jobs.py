"""The verbs about jobs of a service: `list`, `get`, `cancel`, `pause`, `resume`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ratchet.service.cli.service_access import JobArgument, UrlOption, client_of
from ratchet.service.cli.session import Session
from ratchet.service.cli.submitting import say_job

Kind = Literal["update", "study", "plan"]
Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


def list(
    session: Session,
    lineage: Annotated[str | None, typer.Option(help="Of this lineage.")] = None,
    status: Annotated[Status | None, typer.Option(help="In this state.")] = None,
    kind: Annotated[Kind, typer.Option(help="What kind of job.")] = "update",
    limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 20,
    url: UrlOption = None,
) -> None:
    """List the jobs of the service, newest first."""
    from ratchet.service.terminal.jobs import show_jobs

    with client_of(session, url) as client:
        jobs = client.list(kind=kind, lineage=lineage, status=status, limit=limit)
    if session.as_json:
        session.emit({"jobs": [job.model_dump(mode="json") for job in jobs]})
    else:
        show_jobs(jobs, session.out)


def get(session: Session, job: JobArgument, url: UrlOption = None) -> None:
    """Show JOB: its state, how far it is, what came of it."""
    from ratchet.service.terminal.jobs import show_job

    with client_of(session, url) as client:
        found = client.get(job)
    if session.as_json:
        session.emit(found.model_dump(mode="json"))
    else:
        show_job(found, session.out)


def cancel(session: Session, job: JobArgument, url: UrlOption = None) -> None:
    """Have JOB end without a version."""
    with client_of(session, url) as client:
        say_job(session, client.cancel(job))


def pause(session: Session, job: JobArgument, url: UrlOption = None) -> None:
    """Have JOB stop at a checkpoint, to be resumed later."""
    with client_of(session, url) as client:
        say_job(session, client.pause(job))


def resume(session: Session, job: JobArgument, url: UrlOption = None) -> None:
    """Let a paused JOB go on from where it stopped."""
    with client_of(session, url) as client:
        say_job(session, client.resume(job))

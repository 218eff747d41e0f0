"""The verbs that watch a job of a service: `events` and `logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.service.cli.service_access import JobArgument, UrlOption, client_of
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.client import Client

FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
]


def events(
    session: Session, job: JobArgument, follow: FollowOption = False, url: UrlOption = None
) -> None:
    """Show what happened to JOB. With --follow and --json, one object a line."""
    from ratchet.service.terminal.job_lines import event_line

    with client_of(session, url) as client:
        if session.as_json and not follow:
            found = client.past_events(job)
            session.emit({"events": [event.model_dump(mode="json") for event in found]})
            return
        for event in client.events(job) if follow else client.past_events(job):
            if session.as_json:
                session.emit(event.model_dump(mode="json"))
            else:
                session.out.print(event_line(event), soft_wrap=True)


def logs(
    session: Session,
    job: JobArgument,
    follow: FollowOption = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="Which attempt; by default the latest.")
    ] = None,
    url: UrlOption = None,
) -> None:
    """Print what JOB printed. With --follow and --json, one object a line."""
    with client_of(session, url) as client:
        if session.as_json and not follow:
            text = "".join(client.logs(job, attempt=attempt))
            session.emit({"job": job, "attempt": attempt, "text": text})
        elif session.as_json:
            for text in client.logs(job, attempt=attempt, follow=True):
                session.emit({"job": job, "text": text})
        else:
            _print(session, client, job, follow, attempt)


def _print(session: Session, client: Client, job: str, follow: bool, attempt: int | None) -> None:
    """Text as it is; below it, where somebody looks, how far the job is."""
    pieces = client.logs(job, attempt=attempt, follow=follow)
    if not (follow and session.out.is_terminal):
        for text in pieces:
            session.out.file.write(text)
            session.out.file.flush()
        return
    from ratchet.service.terminal.job_lines import JobLines

    with JobLines(session.out, lambda: client.get(job)) as lines:
        for text in pieces:
            session.out.out(text, end="", highlight=False)
            lines.refresh()

"""The verbs that hand work to a service and wait for it: `submit` and `wait`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.cli.failures import CANCELLED, DONE, FAILED, REFUSED
from ratchet.service.cli.service_access import JobArgument, UrlOption, client_of
from ratchet.service.cli.session import Session
from ratchet.service.cli.updates import LineageOption, SetOption, SpecArgument, changed

if TYPE_CHECKING:
    from ratchet.pipelines.files.json_value import JsonObject
    from ratchet.service.client import Client, JobView

TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", min=0, help="Seconds to wait at most; then exit 6.")
]


def submit(
    session: Session,
    spec: SpecArgument,
    study: Annotated[
        bool, typer.Option("--study", help="Search the settings under `tune` instead.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Teach nothing: say what the update would do.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the job until it has ended.")
    ] = False,
    timeout: TimeoutOption = None,
    upload: Annotated[
        bool,
        typer.Option(help="Upload data files of this machine; otherwise the service reads them."),
    ] = True,
    priority: Annotated[
        int, typer.Option(min=-100, max=100, help="Jobs of a higher priority start first.")
    ] = 0,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="To find the job again by."),
    ] = None,
    changes: SetOption = None,
    lineage: LineageOption = None,
    url: UrlOption = None,
) -> None:
    """Hand the update of SPEC to the service, which queues it, runs it and judges it."""
    _check_options(study, plan, wait, timeout)
    raw = _read(spec, changed(changes, lineage))
    pairs = dict(_pair(text) for text in metadata or ())
    with client_of(session, url) as client:
        job = client.submit(
            raw,
            kind="study" if study else "plan" if plan else "update",
            upload=upload,
            priority=priority,
            metadata=pairs,
        )
        if wait:
            session.err.print(f"submitted {job.id}")
            _await(session, client, job.id, timeout)
    if session.as_json:
        session.emit(job.model_dump(mode="json"))
        return
    session.out.print(f"{job.id} is {job.status}. Next: ratchet wait {job.id}", soft_wrap=True)


def wait(
    session: Session, job: JobArgument, timeout: TimeoutOption = None, url: UrlOption = None
) -> None:
    """Follow JOB until it has ended; the exit code says how.

    0 done, 1 failed, 4 the gate refused, 5 cancelled, 6 not finished in time, or no longer waited
    for.
    """
    with client_of(session, url) as client:
        _await(session, client, job, timeout)


def _await(session: Session, client: Client, job_id: str, timeout: float | None) -> None:
    from ratchet.service.client import UnfinishedError
    from ratchet.service.terminal.job_lines import JobLines
    from ratchet.service.terminal.jobs import show_job

    try:
        with JobLines(session.err, lambda: client.get(job_id)) as lines:
            job = client.wait(job_id, timeout=timeout, on_event=lines)
    except KeyboardInterrupt:
        raise UnfinishedError(
            f"{job_id} is no longer waited for; it goes on. Next: ratchet wait {job_id}, or cancel"
        ) from None
    if session.as_json:
        session.emit(job.model_dump(mode="json"))
    else:
        show_job(job, session.out)
    raise typer.Exit(ending_code(job))


def ending_code(job: JobView) -> int:
    """The exit code that stands for a job's end."""
    if job.status == "succeeded":
        is_refused = job.promotion is not None and job.promotion.decision == "refused"
        return REFUSED if is_refused else DONE
    return CANCELLED if job.status == "cancelled" else FAILED


def _check_options(study: bool, plan: bool, wait: bool, timeout: float | None) -> None:
    """Refuse options that would be passed over in silence."""
    problems: list[Problem] = []
    if study and plan:
        problems.append(Problem("--plan", "a job is a study or a plan, not both", plan))
    if timeout is not None and not wait:
        problems.append(Problem("--timeout", "only with --wait is anything waited for", timeout))
    if problems:
        raise SpecError(problems)


def _read(spec: Path, changes: list[str]) -> JsonObject:
    """The fields of a spec file, with paths that hold from anywhere."""
    from ratchet.pipelines.spec.changes import apply_changes, parse_changes
    from ratchet.service.client.spec_data import make_absolute, place_model, read_spec

    raw, folder = read_spec(spec)
    raw = apply_changes(raw, parse_changes(changes))
    place_model(raw, folder)
    make_absolute(raw, folder)
    return raw


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (sign and key):
        raise SpecError([Problem("--metadata", "must be KEY=VALUE", text)])
    return key, value


def say_job(session: Session, job: JobView) -> None:
    """What a job is now, in a line or as JSON."""
    if session.as_json:
        session.emit(job.model_dump(mode="json"))
        return
    session.out.print(
        f"{escape(job.id)} is {job.status} ({job.phase}){_coming(job)}", soft_wrap=True
    )


def _coming(job: JobView) -> str:
    """What a job that runs was asked to do, and has not done yet."""
    if job.status != "running":
        return ""
    if job.cancel_requested:
        return ", and is about to be cancelled"
    return ", and is about to pause" if job.pause_requested else ""

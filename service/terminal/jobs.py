"""Jobs of a service as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.pages.words import NONE, counted, day, duration, local, percent
from ratchet.service.schemas.jobs import JobView
from ratchet.service.terminal.job_lines import progress_words
from ratchet.service.terminal.plan import show_plan

TABLE_WIDTH = 72
"""Where fewer columns are there, an id leaves no room for the rest of a table's row."""

COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


def show_jobs(jobs: Sequence[JobView], console: Console) -> None:
    """A table of jobs; on a narrow terminal a line or two for each."""
    if not jobs:
        console.print("No such job. Next: ratchet submit SPEC")
        return
    if console.width < TABLE_WIDTH:
        for job in jobs:
            parts = (job.lineage or NONE, day(local(job.created_at)), _yield(job))
            console.print(f"[bold]{job.id}[/]\n  {_state(job)}")
            console.print(f"  {escape(' · '.join(filter(None, parts)))}")
        return
    table = Table(show_edge=False)
    for header in ("job", "lineage", "state", "made", "came of it"):
        table.add_column(header, no_wrap=header == "job")
    for job in jobs:
        made = day(local(job.created_at))
        table.add_row(job.id, escape(job.lineage or NONE), _state(job), made, escape(_yield(job)))
    console.print(table)


def show_job(job: JobView, console: Console) -> None:
    """Everything that one wants to know of a job first."""
    of = "" if job.lineage is None else f" of {escape(job.lineage)}"
    console.print(f"[bold]{job.id}[/]: {job.object}{of}, {_state(job)}", soft_wrap=True)
    if job.started_at is not None and job.finished_at is not None:
        spent = duration(job.finished_at - job.started_at)
        tries = "" if job.attempt < 2 else f", {counted(job.attempt, 'attempt')}"
        console.print(f"took {spent}{tries}")
    if job.error is not None:
        console.print(f"[red]{escape(job.error.message)}[/]", soft_wrap=True)
        for problem in job.error.problems:
            place = f"{problem.where}: " if problem.where else ""
            hint = f". {problem.hint}" if problem.hint else ""
            console.print(f"  {escape(place + problem.message + hint)}", soft_wrap=True)
    if job.promotion is not None and job.promotion.version is not None:
        console.print(escape(_yield(job)), soft_wrap=True)
        for reason in job.promotion.reasons:
            console.print(f"  {escape(reason)}", soft_wrap=True)
    if job.object == "plan" and job.result is not None:
        show_plan(job.result, console)
    else:
        _show_result(job.result or {}, console)


def _show_result(result: Mapping[str, Json], console: Console) -> None:
    """What the gate says of an update, what is served, and where its report lies.

    Of a study the page, and what it chose.
    """
    gate, served = result.get("gate"), result.get("as_served")
    if isinstance(gate, Mapping) and gate.get("headline"):
        console.print(escape(str(gate["headline"])), soft_wrap=True)
    if isinstance(served, Mapping):
        average = percent(float(str(served["average_accuracy"])))
        console.print(f"as served: {average} of test rows get their label where no task is named")
    for name in ("report", "page"):
        if result.get(name):
            console.print(f"{name}: {escape(str(result[name]))}", soft_wrap=True)
    chosen = result.get("chosen")
    if isinstance(chosen, Mapping):
        settings = chosen.get("settings")
        console.print(f"chosen: trial {chosen.get('number')}; run it with", soft_wrap=True)
        named = settings.items() if isinstance(settings, Mapping) else ()
        changes = [f"--set {name}={value}" for name, value in named]
        console.print(f"  ratchet submit SPEC {escape(' '.join(changes))}", soft_wrap=True)


def _state(job: JobView) -> str:
    colour = COLOURS.get(job.status)
    words = escape(progress_words(job))
    return f"[{colour}]{words}[/]" if colour else words


def _yield(job: JobView) -> str:
    if job.error is not None:
        return job.error.message.partition("\n")[0]
    decision = job.promotion
    if decision is None or decision.version is None:
        return ""
    words = {"promoted": "is champion", "refused": "was refused by the gate", "none": "waits"}
    return f"version {decision.version} {words[decision.decision]}"

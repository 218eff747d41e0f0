"""The verb `up`: the whole service on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.pages.words import NONE, size
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.up.layout import Layout
    from ratchet.service.up.supervisor import Supervisor

Port = typer.Option(min=1, max=65535)


def up(
    session: Session,
    api_port: Annotated[int, Port] = 8080,
    router_port: Annotated[int, Port] = 8000,
    mlflow_port: Annotated[int, Port] = 5000,
    ray_port: Annotated[int, Port] = 6379,
    dashboard_port: Annotated[int, Port] = 8265,
    cpus: Annotated[
        int | None,
        typer.Option(min=1, help="CPUs that Ray gives away; by default all, and one for serving."),
    ] = None,
    data_root: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder or s3:// prefix that specs may name data and models under, "
            "beside uploads; may be repeated."
        ),
    ] = None,
    ray: Annotated[
        bool, typer.Option(help="Run jobs on Ray; otherwise as plain processes.")
    ] = True,
    mlflow: Annotated[bool, typer.Option(help="Start an MLflow server.")] = True,
    router: Annotated[bool, typer.Option(help="Serve all lineages.")] = True,
) -> None:
    """Start the service: Ray, the API, the controller, the router and MLflow; Ctrl-C stops it all.

    Everything listens on this machine alone, or asks for a token.
    """
    from ratchet.service.settings import Settings
    from ratchet.service.up.layout import Layout
    from ratchet.service.up.secrets import make_admin_key
    from ratchet.service.up.supervisor import supervising

    layout = Layout(
        session.home,
        api_port,
        router_port if router else None,
        mlflow_port if mlflow and session.tracking_uri is None else None,
        ray_port if ray else None,
        dashboard_port,
        cpus or _own_cpus() + (1 if router else 0),
        session.tracking_uri,
        tuple(_root(text) for text in data_root or ()),
    )
    with supervising(layout, lambda line: _say(session, line)) as supervisor:
        if make_admin_key(layout.admin_key, Settings(home=session.home)):
            _say(session, f"made an administrator's key: {layout.admin_key}")
        _say(session, f"starting; the logs are in {layout.logs}")
        supervisor.run(lambda: _show(session, layout, supervisor))
    _say(session, "stopped")


def _own_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _root(text: str) -> str:
    """A root that does not depend on where one stands.

    Raises:
        SpecError: It is no folder, or holds the comma that stands between roots.
    """
    if "," in text or not ("://" in text or Path(text).is_dir()):
        raise SpecError([Problem("--data-root", "must be a folder or a URI prefix", text)])
    return text if "://" in text else str(Path(text).resolve())


def _show(session: Session, layout: Layout, supervisor: Supervisor) -> None:
    """What runs, where it answers and what it takes."""
    from ratchet.service.up.stray_processes import memory_bytes

    rows = [
        (child.part.name, child.part.url, child.pid, memory_bytes(child.pid or 0), child.log)
        for child in supervisor.children
    ]
    if session.as_json:
        names = ("part", "url", "pid", "memory_bytes", "log")
        parts = [dict(zip(names, (*row[:4], str(row[4])), strict=True)) for row in rows]
        session.emit({"home": str(layout.home), "admin_key": str(layout.admin_key), "parts": parts})
        return
    table = Table(show_edge=False)
    for header in ("part", "URL", "process", "memory", "log"):
        table.add_column(header, justify="right" if header in ("process", "memory") else "left")
    for name, url, pid, memory, log in rows:
        table.add_row(name, url or NONE, str(pid), size(memory), log.name)
    session.out.print(table)
    _say(session, "The service works. Next, in another terminal: ratchet submit SPEC --wait")
    _say(session, "Ctrl-C stops it all.")


def _say(session: Session, line: str) -> None:
    session.err.print(escape(line), soft_wrap=True)

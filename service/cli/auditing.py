"""The verb `audit`: who did what through the service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.service.cli.service_access import UrlOption, client_of
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.client import AuditEntryView


def audit(
    session: Session,
    target: Annotated[
        str | None, typer.Argument(help="Done to this only: a job, a file, a key or a lineage.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Done by this key; its prefix or id.")] = None,
    action: Annotated[str | None, typer.Option(help="Called so, as update.create.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Not before this day or time, here.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 20,
    every: Annotated[
        bool, typer.Option("--all", help="All of them, whatever --limit says.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """List who did what through the service, newest first; needs an administrator's key."""
    with client_of(session, url) as client:
        entries = client.audit(
            key=key,
            action=action,
            target=target,
            since=None if since is None else int(since.timestamp()),
            limit=None if every else limit,
        )
    if session.as_json:
        session.emit({"audit": [entry.model_dump(mode="json") for entry in entries]})
    else:
        _show(session, entries)


def _show(session: Session, entries: Sequence[AuditEntryView]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not entries:
        session.out.print("Nothing of that was done.")
        return
    table = Table(show_edge=False)
    for header in ("when", "key", "from", "action", "to what", "more"):
        table.add_column(header, overflow="fold")
    for entry in entries:
        when = (
            datetime.fromtimestamp(entry.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        )
        more = " ".join(f"{name}={value}" for name, value in (entry.detail or {}).items())
        words = (when, entry.key_prefix or "·", entry.address or "·", entry.action, entry.target)
        table.add_row(*map(escape, words), escape(more))
    session.out.print(table)

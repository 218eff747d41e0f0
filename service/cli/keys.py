"""The verbs `keys create`, `keys list` and `keys revoke`, on the service's database."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.pages.words import day, local
from ratchet.service.cli.session import Session, verb

if TYPE_CHECKING:
    from ratchet.service.store.database import Database

Role = Literal["viewer", "submitter", "promoter", "admin"]
LimitOption = Annotated[int | None, typer.Option(min=1, show_default=False)]


def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: Annotated[
        Role,
        typer.Option(
            help="viewer reads; submitter also submits; promoter also promotes; admin all."
        ),
    ] = "submitter",
    lineages: Annotated[
        list[str] | None,
        typer.Option("--lineage", help="A lineage, or a glob, that it sees; may be repeated."),
    ] = None,
    max_running_jobs: LimitOption = None,
    max_queued_jobs: LimitOption = None,
    requests_per_minute: LimitOption = None,
) -> None:
    """Make a key, and show its secret: the only time."""
    from ratchet.service.store.keys import create_key

    with _database(session) as database:
        key, secret = create_key(
            database,
            name,
            role,
            lineages or ("*",),
            max_running_jobs=max_running_jobs,
            max_queued_jobs=max_queued_jobs,
            requests_per_minute=requests_per_minute,
        )
    if session.as_json:
        session.emit({"key": asdict(key), "secret": secret})
        return
    session.err.print(f"Key {key.prefix} for {escape(name)} ({role}). It is shown this once:")
    session.out.print(secret, soft_wrap=True)
    session.err.print("Use it as RATCHET_API_KEY, or in the header Authorization: Bearer …")


def list_(session: Session) -> None:
    """List the keys, revoked ones too; secrets are not kept."""
    from ratchet.service.store.keys import list_keys

    with _database(session) as database:
        keys = list_keys(database)
    if session.as_json:
        session.emit({"keys": [asdict(key) for key in keys]})
        return
    table = Table(show_edge=False)
    for header in ("prefix", "name", "role", "lineages", "made", "last used", "revoked"):
        table.add_column(header)
    for key in keys:
        when = map(day, map(local, (key.created_at, key.last_used_at, key.revoked_at)))
        table.add_row(key.prefix, escape(key.name), key.role, ", ".join(key.lineages), *when)
    session.out.print(table)


def revoke(
    session: Session,
    key: Annotated[str, typer.Argument(help="Its prefix, or its id.")],
) -> None:
    """Make a key useless at once; jobs that it submitted go on."""
    from ratchet.service.store.keys import revoke_key

    with _database(session) as database:
        revoked = revoke_key(database, key)
    if session.as_json:
        session.emit({"key": asdict(revoked)})
    else:
        session.out.print(f"Key {revoked.prefix} ({escape(revoked.name)}) is revoked.")


def keys_app() -> typer.Typer:
    """The command `keys` with its verbs."""
    app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of a service.")
    app.command()(verb(create))
    app.command("list")(verb(list_))
    app.command()(verb(revoke))
    return app


@contextmanager
def _database(session: Session) -> Generator[Database, None, None]:
    """The service's database, laid out if it is new."""
    from ratchet.service.settings import Settings
    from ratchet.service.store.database import Database

    database = Database(Settings(home=session.home).database_url)
    database.migrate()
    try:
        yield database
    finally:
        database.dispose()

# pyright: reportPrivateUsage=false
"""Bringing a database's tables to those of this release."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from ratchet.pipelines.files.lock import waiting
from ratchet.service.errors import DatabaseSchemaError

_FOLDER = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x7261746368  # any number that nothing else in the database locks


def migrate_to(engine: Engine, revision: str) -> None:
    """Run the migrations that a database lacks, in one transaction.

    Args:
        engine: The database.
        revision: The revision to stop at, or `head`.

    Raises:
        DatabaseSchemaError: The database has a revision that this release does not know.
    """
    scripts = ScriptDirectory(_FOLDER)
    with _alone(engine) as connection:
        current = _known_revision(connection, scripts)

        def steps(_heads: Any, _context: MigrationContext) -> Any:
            return scripts._upgrade_revs(revision, current or "base")

        context = MigrationContext.configure(connection, opts={"fn": steps})
        with Operations.context(context):
            context.run_migrations()


def check_revision(connection: Connection) -> None:
    """Make sure that a database has the tables of this release.

    Raises:
        DatabaseSchemaError: It has others, or none yet.
    """
    scripts = ScriptDirectory(_FOLDER)
    current, head = _known_revision(connection, scripts), scripts.get_current_head()
    if current != head:
        raise DatabaseSchemaError(
            f"database: its tables are at revision {current}, this release needs {head}. "
            "Start the service with `ratchet up`, which migrates, or call migrate()"
        )


def revisions() -> list[str]:
    """Every revision that this release knows, oldest first."""
    return [script.revision for script in ScriptDirectory(_FOLDER).walk_revisions()][::-1]


def _known_revision(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """The revision of a database, None when it is empty."""
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise DatabaseSchemaError(
            f"database: its tables are at revision {current}, which this release does not know: a "
            f"newer one laid them out (here: up to {scripts.get_current_head()}). "
            "Upgrade ratchet, or restore the database from before"
        )
    return current


@contextmanager
def _alone(engine: Engine) -> Generator[Connection, None, None]:
    """A transaction while no other process migrates."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            yield connection
        return
    with waiting(Path(f"{engine.url.database}.migrating")), engine.connect() as connection:
        # Kept in the file ever after. Needs a moment without other connections, hence here.
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA journal_mode = WAL")
        connection = connection.execution_options(writing=True)
        with connection.begin():
            yield connection

"""One database, SQLite or PostgreSQL, and its transactions."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    RowMapping,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ratchet.service.errors import DatabaseUnavailableError
from ratchet.service.store.migrating import check_revision, migrate_to

_WAIT_SECONDS = 30
_POOL = {"pool_size": 10, "max_overflow": 30, "pool_timeout": _WAIT_SECONDS}
# A process that is stopped inside a transaction must not hold up the others for ever.
_POSTGRES_LIMITS = (
    f"SET lock_timeout = '{_WAIT_SECONDS}s'; "
    f"SET idle_in_transaction_session_timeout = '{_WAIT_SECONDS}s'"
)


class Transaction:
    """One transaction: what was read and written in it holds together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.connection.dialect.name == "postgresql"

    def now(self) -> float:
        """The time in Unix seconds: PostgreSQL's own, so that all machines agree; else this one's.

        With SQLite every process is on one machine, which has one clock.
        """
        if not self.is_postgres:
            return time.time()
        clock = self.connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        return float(clock.scalar_one())

    def one(self, statement: Executable) -> RowMapping | None:
        """The first row of an answer, or None."""
        return self.connection.execute(statement).mappings().first()

    def all(self, statement: Executable) -> Sequence[RowMapping]:
        """Every row of an answer."""
        return self.connection.execute(statement).mappings().all()

    def value(self, statement: Executable) -> Any:
        """The first column of the first row, or None."""
        return self.connection.execute(statement).scalar()

    def change(self, statement: Executable, rows: Sequence[Mapping[str, object]] = ()) -> int:
        """Write, and say how many rows that touched."""
        result = self.connection.execute(statement, list(rows) or None)
        return result.rowcount

    def insert_if_absent(self, table: Table, values: Mapping[str, object]) -> bool:
        """Insert a row unless one with its key is there; waits for a rival that is inserting it."""
        insert = postgresql.insert if self.is_postgres else sqlite.insert
        statement = insert(table).values(**values).on_conflict_do_nothing()
        return self.one(statement.returning(*table.primary_key)) is not None


class Database:
    """A database by its URL. Safe for threads; each process makes its own.

    Args:
        url: `sqlite:///<file>` or `postgresql://…`; never shown with its password.

    Raises:
        DatabaseUnavailableError: The URL names no database that the service can use.
    """

    def __init__(self, url: str | SecretStr) -> None:
        text_of_url = url.get_secret_value() if isinstance(url, SecretStr) else url
        self._url = _supported(text_of_url)
        self._engine = _engine(self._url)
        # Threads wait in line here: SQLite's own waiting is a sleep that favours latecomers.
        self._writers = threading.Lock() if self._url.get_backend_name() == "sqlite" else None

    def __repr__(self) -> str:
        return f"Database({str(self)!r})"

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    def migrate(self, revision: str = "head") -> None:
        """Lay the tables out, or bring those of an earlier release up; waits for a rival doing it.

        Args:
            revision: The revision to stop at, for tests.

        Raises:
            DatabaseSchemaError: A newer release laid the tables out.
            DatabaseUnavailableError: The database cannot be reached or written.
        """
        with self._speaking_plainly():
            try:
                self._make_folder()
                migrate_to(self._engine, revision)
            except OSError as error:
                raise DatabaseUnavailableError(
                    f"database_url: {self} cannot be written ({error.strerror}: {error.filename}). "
                    "Name a place that this user may write in RATCHET_HOME or RATCHET_DATABASE_URL"
                ) from error

    def check(self) -> None:
        """Make sure that the database answers and has this release's tables.

        Raises:
            DatabaseSchemaError: It has others, or none yet.
            DatabaseUnavailableError: It does not answer.
        """
        with self._speaking_plainly(), self._engine.connect() as connection:
            check_revision(connection)

    @contextmanager
    def reading(self) -> Generator[Transaction, None, None]:
        """A transaction that only reads."""
        with self._speaking_plainly(), self._engine.connect() as connection, connection.begin():
            yield Transaction(connection)

    @contextmanager
    def writing(self) -> Generator[Transaction, None, None]:
        """A transaction that writes; one at a time on SQLite, by row on PostgreSQL.

        Raises:
            DatabaseUnavailableError: The database is away, or was busy for half a minute.
        """
        with self._speaking_plainly(), self._in_line(), self._engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                yield Transaction(connection)

    def dispose(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _in_line(self) -> Generator[None, None, None]:
        if self._writers is None:
            yield
            return
        if not self._writers.acquire(timeout=_WAIT_SECONDS):
            raise DatabaseUnavailableError(
                f"database {self}: busy with another write for {_WAIT_SECONDS} seconds. Try again"
            )
        try:
            yield
        finally:
            self._writers.release()

    @contextmanager
    def _speaking_plainly(self) -> Generator[None, None, None]:
        """Turn the driver's complaints about the database itself into one that says what to do."""
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(
                f"database {self}: every connection is in use"
            ) from error
        except OperationalError as error:
            raise DatabaseUnavailableError(f"database {self}: {_advice(error)}") from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise DatabaseUnavailableError(f"database {self}: the connection was lost") from error

    def _make_folder(self) -> None:
        if self._writers is not None:
            Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)


def _supported(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseUnavailableError(
            "database_url: not a URL. Give sqlite:///<file> or postgresql://<user>@<host>/<name>"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise DatabaseUnavailableError(
        f"database_url: {parsed.render_as_string(hide_password=True)} cannot hold the truth. "
        "Give sqlite:///<file> or postgresql://<user>@<host>/<name>"
    )


def _engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments = {"timeout": _WAIT_SECONDS} if is_sqlite else {"connect_timeout": 10}
    # Parameters stay out of messages: they hold specs, metadata and hashes of keys.
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=not is_sqlite,
        connect_args=arguments,
        **_POOL,
    )
    event.listen(engine, "connect", _prepare_sqlite if is_sqlite else _prepare_postgres)
    if is_sqlite:
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, DDL's too
    connection.execute("PRAGMA foreign_keys = ON")
    # FULL: a job that was accepted is on the disk, whatever happens to the power.
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _prepare_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRES_LIMITS)
    connection.commit()


def _advice(error: OperationalError) -> str:
    """What the driver said, and what to do about it."""
    said = str(error.orig).strip()
    if "readonly" in said or "read-only" in said or "unable to open" in said:
        return f"cannot be written ({said}). Put it on a disk that this user may write"
    if "no such table" in said:
        return f"has no tables yet ({said}). Call migrate() first, as `ratchet up` does"
    if "locked" in said:
        return f"busy with another process's write for {_WAIT_SECONDS} seconds ({said}). Try again"
    return f"{said}. See that it runs and that RATCHET_DATABASE_URL names it"

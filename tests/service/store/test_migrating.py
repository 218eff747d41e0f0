"""Covers, beside `migrating`: `database`, `tables`.

The migrations: what they yield, from where, and who may not go on.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from ratchet.service.errors import DatabaseSchemaError, DatabaseUnavailableError
from ratchet.service.store.database import Database
from ratchet.service.store.migrating import revisions
from ratchet.service.store.tables import METADATA

MIGRATE = (
    "import sys; from ratchet.service.store.database import Database;"
    "Database(sys.argv[1]).migrate()"
)


def differences(database):
    """What the tables of a database and those of this release differ in."""
    options = {"compare_type": True, "compare_server_default": True}
    with database.reading() as tx:
        context = MigrationContext.configure(tx.connection, opts=options)
        return compare_metadata(context, METADATA)


@pytest.fixture
def database(empty_url):
    """A database without tables."""
    made = Database(empty_url)
    yield made
    made.dispose()


@pytest.mark.parametrize("start", ["base", *revisions()])
def test_the_migrations_from_any_revision_yield_exactly_the_tables(database, start):
    if start != "base":
        database.migrate(start)
    database.migrate()
    assert differences(database) == []
    database.check()


def test_the_comparison_sees_a_column_that_the_migrations_lack(database):
    database.migrate()
    with database.writing() as tx:
        tx.change(text("ALTER TABLE jobs DROP COLUMN num_lost"))
    assert [change[0] for change in differences(database)] == ["add_column"]


def test_the_migrations_make_the_checks_that_the_comparison_does_not_see(database):
    database.migrate()
    with database.reading() as tx:
        made = {
            (table, check["name"])
            for table in METADATA.tables
            for check in inspect(tx.connection).get_check_constraints(table)
        }
    meant = {
        (table.name, check.name)
        for table in METADATA.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    assert made == meant
    assert ("jobs", "ck_jobs_status") in made


def test_migrating_again_changes_nothing(db):
    db.migrate()
    assert differences(db) == []


@pytest.mark.slow
def test_processes_that_migrate_at_once_wait_for_each_other(empty_url):
    running = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, errors
    migrated = Database(empty_url)
    migrated.check()
    migrated.dispose()


def test_a_database_of_a_newer_release_is_left_alone(db):
    with db.writing() as tx:
        tx.change(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (db.migrate, db.check):
        with pytest.raises(DatabaseSchemaError, match=r"revision 9999.*Upgrade ratchet"):
            act()


def test_a_database_that_was_not_migrated_says_so(database, empty_url):
    database.migrate()
    with database.writing() as tx:
        tx.change(text("DELETE FROM alembic_version"))
    with pytest.raises(DatabaseSchemaError, match="revision None"):
        database.check()


def test_sqlite_keeps_a_log_of_writes_checks_foreign_keys_and_waits(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'deep' / 'ratchet.db'}")
    database.migrate()
    with database.reading() as tx:
        assert tx.value(text("PRAGMA journal_mode")) == "wal"
        assert tx.value(text("PRAGMA foreign_keys")) == 1
        assert tx.value(text("PRAGMA busy_timeout")) == 30_000
        assert tx.value(text("PRAGMA synchronous")) == 2  # FULL
    database.dispose()


@pytest.fixture
def unwritable():
    """A folder that this process cannot write to, root or not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Database(f"sqlite:///{folder / 'ratchet.db'}").migrate()
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # root may write anywhere
        yield folder
        os.seteuid(was)
        folder.chmod(0o755)


def test_a_database_on_a_disk_that_cannot_be_written_says_what_to_do(unwritable):
    database = Database(f"sqlite:///{unwritable / 'ratchet.db'}")
    with pytest.raises(DatabaseUnavailableError, match=r"cannot be written.*RATCHET_HOME"):
        database.migrate()
    with (
        pytest.raises(DatabaseUnavailableError, match=r"readonly.*Put it on a disk"),
        database.writing() as tx,
    ):
        tx.change(text("DELETE FROM events"))
    elsewhere = Database(f"sqlite:///{unwritable / 'below' / 'ratchet.db'}")
    with pytest.raises(DatabaseUnavailableError, match="cannot be written"):
        elsewhere.migrate()
    database.dispose()
    elsewhere.dispose()


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/n", "http://h/x"]
)
def test_a_url_that_names_no_usable_database_is_refused_without_its_password(url):
    with pytest.raises(DatabaseUnavailableError, match="postgresql://") as refused:
        Database(url)
    assert "secret" not in str(refused.value)

"""One real PostgreSQL server for a test session, and an empty database for each who asks."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.waiting import free_port

PASSWORD = "a-password-of-tests"
ACCOUNT = "nobody"  # PostgreSQL refuses to run as root


@dataclass(frozen=True)
class PostgresServer:
    """A server that runs: its port, its folder and the folder of its programs."""

    port: int
    folder: Path
    programs: Path

    def url(self, name: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://ratchet:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        """The URL of a fresh, empty database."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.url(name)

    def stop(self) -> None:
        """End the server as a crash would."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("start", "-w", "-t", "60", "-l", str(self.folder / "log"))

    def _control(self, *arguments: str) -> None:
        command = [str(self.programs / "pg_ctl"), "-D", str(self.folder / "data"), *arguments]
        run_unprivileged(command)


def run_unprivileged(command: list[str]) -> None:
    """Run a program as somebody who is not root, and fail with what it said."""
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={ACCOUNT}", "--clear-groups", *command]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"


def programs_folder() -> Path:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert folders, "PostgreSQL is not installed: install the package postgresql (15 or newer)"
    return folders[-1].parent


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server in a temporary folder, on a free port of this machine only.

    Args:
        durable: Whether commits wait for the disk, as in production.
    """
    folder = Path(tempfile.mkdtemp(prefix="ratchet-postgres-"))
    server = PostgresServer(free_port(), folder, programs_folder())
    try:
        _initialize(server, durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _initialize(server: PostgresServer, durable: bool) -> None:
    password = server.folder / "password"
    password.write_text(PASSWORD)
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        for path in (server.folder, password):
            os.chown(path, account.pw_uid, account.pw_gid)
    data = server.folder / "data"
    options = ["-U", "ratchet", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]
    initdb = [str(server.programs / "initdb"), "-D", str(data), f"--pwfile={password}"]
    run_unprivileged([*initdb, *options])
    lines = [
        "listen_addresses = '127.0.0.1'",
        f"port = {server.port}",
        f"unix_socket_directories = '{server.folder}'",
        "max_connections = 200",
        f"fsync = {'on' if durable else 'off'}",
        f"synchronous_commit = {'on' if durable else 'off'}",
    ]
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("\n".join(["", *lines, ""]))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, shared by the session."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of an empty PostgreSQL database of the test's own."""
    return postgres.new_database()

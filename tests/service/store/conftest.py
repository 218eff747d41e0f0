import pytest

from ratchet.service.store.database import Database
from ratchet.service.store.keys import create_key
from ratchet.service.store.leases import acquire


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def empty_url(request, tmp_path):
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ratchet.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def db(empty_url):
    """A database with this release's tables."""
    database = Database(empty_url)
    database.migrate()
    yield database
    database.dispose()


@pytest.fixture
def lease(db):
    """The lease of the only controller."""
    return acquire(db, "controller", "first", 60.0)


@pytest.fixture
def key(db):
    """A submitter's key."""
    return create_key(db, "alice", "submitter")[0]

import pytest

from ratchet.service.settings import Settings
from ratchet.service.store.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def db(request, tmp_path):
    """An empty database with its tables."""
    url = f"sqlite:///{tmp_path / 'ratchet.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    database = Database(url)
    database.migrate()
    yield database
    database.dispose()


@pytest.fixture
def settings(tmp_path):
    """Settings of a service in a temporary folder, which answers quickly."""
    return Settings(
        home=tmp_path / "home", poll_seconds=0.05, lease_seconds=5.0, launcher="process"
    )

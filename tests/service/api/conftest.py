import pytest

from tests.service.api.served import listening, serve


@pytest.fixture
def served(tmp_path):
    """The API over an SQLite database of its own."""
    made = serve(tmp_path / "home")
    yield made
    made.db.dispose()


@pytest.fixture
def address(served):
    """The API's address on a real server."""
    with listening(served.app) as url:
        yield url

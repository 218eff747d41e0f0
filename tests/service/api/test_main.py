"""How the API is served as a process."""

import httpx
import pytest
import uvicorn

from ratchet.service.api import __main__ as program
from ratchet.service.api.event_stream import MAX_STREAMS
from ratchet.service.client.failures import error_of
from ratchet.service.errors import UnavailableError
from tests.service.api.served import listening


def test_connections_are_bounded_with_room_beside_all_event_streams(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    monkeypatch.setattr(uvicorn, "run", lambda _app, **options: seen.update(options))
    program.main()
    assert 2 * MAX_STREAMS <= seen["limit_concurrency"] < 1024


def test_a_connection_too_many_is_told_that_the_service_is_unavailable(served):
    with listening(served.app, limit_concurrency=1) as url:
        response = httpx.get(f"{url}/healthz")
    assert response.status_code == 503
    with pytest.raises(UnavailableError, match="answered 503"):
        raise error_of(response)

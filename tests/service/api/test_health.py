"""Covers `routes.health`, `metrics`."""

import pytest

from ratchet.service.store.leases import acquire, release


def test_the_service_is_ready_while_a_controller_holds_the_lease(served):
    with served.client() as client:
        before = client.get("/readyz")
        lease = acquire(served.db, "controller", "test", 60.0)
        during = client.get("/readyz")
        release(served.db, lease)
        after = client.get("/readyz")

    assert [one.status_code for one in (before, during, after)] == [503, 200, 503]
    assert during.json() == {
        "status": "ready",
        "database": True,
        "controller": True,
        "problems": [],
    }
    assert "no controller" in before.json()["problems"][0]


def test_requests_and_jobs_are_counted(served):
    served.submit()
    with served.client() as client:
        client.get("/v1/nothing")
        client.request("BREW", "/v1/updates")
        text = client.get("/metrics").text

    assert 'ratchet_jobs{kind="update",status="queued"} 1.0' in text
    assert 'ratchet_api_requests_total{method="POST",route="/v1/updates",status="202"} 1.0' in text
    assert 'method="GET",route="unmatched",status="404"' in text
    assert 'method="other"' in text
    assert 'ratchet_api_request_seconds_count{method="POST",route="/v1/updates"} 1.0' in text
    assert "rk_" not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_health_is_open(served, path):
    with served.client() as client:
        client.headers.pop("Authorization")
        assert client.get(path).status_code in (200, 503)

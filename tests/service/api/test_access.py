"""Covers, beside `access`: `guarded_route`, `request_log`, `app`, `backend`.

Keys, roles, limits, and what is written down of a request.
"""

import json
import logging
import socket

import pytest

from ratchet.service.store.keys import create_key, list_keys, revoke_key
from tests.service.api.served import listening, serve

WRITES = [
    ("submitter", "POST", "/v1/updates"),
    ("submitter", "POST", "/v1/studies"),
    ("submitter", "POST", "/v1/plans"),
    ("submitter", "POST", "/v1/updates/x/cancel"),
    ("submitter", "POST", "/v1/updates/x/pause"),
    ("submitter", "POST", "/v1/updates/x/resume"),
    ("submitter", "POST", "/v1/fine_tuning/jobs"),
    ("submitter", "POST", "/v1/fine_tuning/jobs/x/cancel"),
    ("submitter", "POST", "/v1/files"),
    ("submitter", "DELETE", "/v1/files/x"),
    ("promoter", "POST", "/v1/promotions"),
    ("promoter", "POST", "/v1/rollbacks"),
]
BODIES = {
    "/v1/promotions": {"lineage": "intents"},
    "/v1/rollbacks": {"lineage": "intents"},
    "/v1/fine_tuning/jobs": {"model": "minilm", "training_file": "x"},
}


@pytest.mark.parametrize(("role", "method", "path"), WRITES)
def test_a_lesser_role_changes_nothing(served, role, method, path):
    lesser = "viewer" if role == "submitter" else "submitter"
    body = BODIES.get(path, {"spec": {}})
    with served.client(lesser) as client:
        response = client.request(method, path, json=body)

    assert response.status_code == 403
    assert response.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize(("role", "method", "path"), WRITES)
def test_the_body_of_a_lesser_role_is_not_looked_at(served, role, method, path):
    lesser = "viewer" if role == "submitter" else "submitter"
    with served.client(lesser) as client:
        response = client.request(method, path, content=b"nonsense")

    assert response.status_code == 403


def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr("ratchet.service.api.guarded_route.BODY_SECONDS", 0.05)
    with listening(served.app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/updates HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
                b"Content-Type: application/json\r\n"
                b"Authorization: Bearer " + served.secrets["submitter"].encode() + b"\r\n\r\n{"
            )
            answer = connection.makefile("rb").read()  # to the end: the connection is closed

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"body: not all of it came within" in answer


def test_every_route_but_health_needs_a_key(served):
    paths = served.app.openapi()["paths"]
    refused = []
    with served.client("viewer") as client:
        client.headers.pop("Authorization")
        for path, methods in paths.items():
            for method in methods:
                response = client.request(method, path.replace("{", "").replace("}", ""))
                if response.status_code != 401:
                    refused.append(path)
                else:
                    assert response.headers["www-authenticate"] == "Bearer"

    assert sorted(refused) == ["/healthz", "/metrics", "/readyz"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer sk-1",
        "Basic rk_00000000_" + "x" * 43,
        "Bearer rk_00000000_" + "x" * 43,
        "Bearer rk_00000000_" + "x" * 42 + "é",
        "Bearer " + "x" * 5000,
    ],
)
def test_what_is_no_key_of_ours_is_refused(served, header):
    with served.client() as client:
        response = client.get("/v1/me", headers={"Authorization": header.encode()})

    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


def test_a_revoked_key_is_refused_at_once(served):
    with served.client("submitter") as client:
        assert client.get("/v1/me").status_code == 200
        (key,) = [key for key in list_keys(served.db) if key.name == "submitter"]
        revoke_key(served.db, key.id)
        assert client.get("/v1/me").status_code == 401


def test_a_key_that_asks_too_often_waits(served):
    _, secret = create_key(served.db, "eager", "viewer", requests_per_minute=12)
    headers = {"Authorization": f"Bearer {secret}"}
    with served.client("viewer") as client:
        answers = [client.get("/v1/me", headers=headers) for _ in range(3)]
        other = client.get("/v1/me")

    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit"] == '"requests";r=1;t=0'
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=12;w=60'
    assert 1 <= int(answers[2].headers["retry-after"]) <= 5
    assert answers[2].json()["error"]["type"] == "rate_limit_error"
    assert other.status_code == 200


def test_a_full_queue_of_a_key_is_told(served):
    _, secret = create_key(served.db, "small", "submitter", max_queued_jobs=1)
    headers = {"Authorization": f"Bearer {secret}"}
    with served.client() as client:
        form = {"purpose": "fine-tune"}
        row = b'{"text": "a", "label": "b"}\n'
        upload = client.post(
            "/v1/files", files={"file": ("a.jsonl", row)}, data=form, headers=headers
        ).json()["id"]
        answers = [
            client.post(
                "/v1/updates",
                json={"spec": served.spec(train=upload, lineage=f"l{n}")},
                headers=headers,
            )
            for n in range(2)
        ]

    assert [one.status_code for one in answers] == [202, 429]
    assert answers[1].json()["error"]["code"] == "quota_exceeded"
    assert int(answers[1].headers["retry-after"]) > 0


def test_a_request_has_an_id_and_one_line_without_secrets(served, caplog):
    secret = served.secrets["submitter"]
    with caplog.at_level(logging.INFO, "ratchet.api"), served.client() as client:
        given = client.get("/v1/me", headers={"X-Request-ID": "mine-1"})
        made = client.get("/v1/updates/x?token=hidden", headers={"X-Request-ID": "not\tsane"})

    assert given.headers["x-request-id"] == "mine-1"
    assert len(made.headers["x-request-id"]) == 16
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "ratchet.api"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/me", 200),
        ("/v1/updates/{job_id}", 404),
    ]
    assert (lines[0]["request"], lines[0]["key"]) == ("mine-1", secret[3:11])
    assert secret not in caplog.text
    assert secret[12:] not in caplog.text
    assert "hidden" not in caplog.text


def test_an_upload_without_a_key_is_refused_before_it_is_read(served):
    with served.client() as client:
        response = client.post(
            "/v1/files",
            content=b"--x\r\n" + b"x" * 100_000,
            headers={"Authorization": "", "Content-Type": "multipart/form-data; boundary=x"},
        )

    assert response.status_code == 401
    assert not (served.settings.home / "files").exists()


def test_a_service_without_a_database_says_so(tmp_path):
    made = serve(tmp_path / "home")
    made.db.dispose()
    for file in (tmp_path / "home").glob("ratchet.db*"):
        file.unlink()
    (tmp_path / "home" / "ratchet.db").mkdir()
    with made.client(raise_server_exceptions=False) as client:
        me, ready, live = (client.get(p) for p in ("/v1/me", "/readyz", "/healthz"))

    assert (me.status_code, ready.status_code, live.status_code) == (503, 503, 200)
    assert me.json()["error"]["code"] == "database_unavailable"
    assert me.headers["retry-after"] == "5"
    assert ready.json()["database"] is False
    made.db.dispose()

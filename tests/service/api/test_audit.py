"""Covers `routes.audit`, `schemas.audit`.

The audit trail over HTTP, for administrators.
"""

import pytest

from ratchet.service.store.keys import list_keys


@pytest.fixture
def done(served):
    """An upload by a submitter, deleted by an administrator, after the keys of every role."""
    file_id = served.upload()
    with served.client("admin") as client:
        assert client.delete(f"/v1/files/{file_id}").status_code == 200
    return file_id


def prefix_of(served, name):
    return next(key.prefix for key in list_keys(served.db) if key.name == name)


def test_an_administrator_reads_who_did_what_from_where(served, done):
    with served.client("admin") as client:
        page = client.get("/v1/audit", params={"target": done}).json()

    assert [
        (one["action"], one["key_prefix"], one["address"], one["object"]) for one in page["data"]
    ] == [
        ("file.delete", prefix_of(served, "admin"), "testclient", "audit_entry"),
        ("file.create", prefix_of(served, "submitter"), "testclient", "audit_entry"),
    ]
    assert {one["target"] for one in page["data"]} == {done}
    assert (page["has_more"], page["last_id"]) == (False, page["data"][1]["id"])
    assert not any(secret in str(page) for secret in served.secrets.values())


@pytest.mark.parametrize("role", ["viewer", "submitter", "promoter", "stranger"])
def test_everyone_else_is_refused(served, done, role):
    with served.client(role) as client:
        response = client.get("/v1/audit")

    assert response.status_code == 403
    assert "this needs admin" in response.json()["detail"]


def test_without_a_key_nothing_is_told(served):
    with served.client() as client:
        assert client.get("/v1/audit", headers={"Authorization": ""}).status_code == 401


def test_the_trail_is_read_page_by_page(served, done):
    found, after = [], None
    with served.client("admin") as client:
        whole = client.get("/v1/audit").json()["data"]
        while True:
            params = {"limit": 3} | ({"after": after} if after else {})
            page = client.get("/v1/audit", params=params).json()
            found += page["data"]
            if not page["has_more"]:
                break
            after = page["last_id"]

    assert found == whole
    assert [one["id"] for one in found] == [f"audit-{n}" for n in range(len(whole), 0, -1)]
    assert len(whole) == 5 + 2


def test_the_trail_is_narrowed_by_key_action_and_time(served, done):
    with served.client("admin") as client:
        deeds = client.get("/v1/audit", params={"key": prefix_of(served, "submitter")}).json()
        made = client.get("/v1/audit", params={"action": "key.create"}).json()
        latest = made["data"][0]["created_at"]
        later = client.get("/v1/audit", params={"since": latest + 3600}).json()
        earlier = client.get("/v1/audit", params={"since": latest - 3600}).json()

    assert [one["action"] for one in deeds["data"]] == ["file.create"]
    assert len(made["data"]) == 5
    assert (later["data"], len(earlier["data"])) == ([], 7)


@pytest.mark.parametrize(
    "query",
    ["after=7", "after=audit-x", "after=audit-", "limit=0", "since=-1", "since=now", "key="],
)
def test_a_question_that_means_nothing_is_refused(served, query):
    with served.client("admin") as client:
        assert client.get(f"/v1/audit?{query}").status_code == 400

"""Covers `routes.lineages`.

Lineages, versions, promotions and rollbacks over HTTP.
"""

import pytest

from ratchet.service.store.audit import list_audit


@pytest.fixture
def taught(served):
    """Two versions of `intents`: the first is champion, the second waits."""
    served.teach(1)
    served.teach(2, "refused", ["banking fell"], joint=True)
    return served


def test_a_lineage_shows_who_answers_and_who_waits(taught):
    with taught.client("viewer") as client:
        lineage = client.get("/v1/lineages/intents").json()
        listed = client.get("/v1/lineages").json()

    assert (lineage["champion"], lineage["challenger"], lineage["active_job"]) == (1, 2, None)
    assert lineage["base"] == {"name": "minilm", "kind": "classifier"}
    assert listed["data"] == [lineage]


def test_versions_are_listed_newest_first_and_paged(taught):
    with taught.client("viewer") as client:
        first = client.get("/v1/versions?lineage=intents&limit=1").json()
        rest = client.get(f"/v1/versions?lineage=intents&after={first['last_id']}").json()
        one = client.get("/v1/versions/intents/1").json()

    assert [v["id"] for v in first["data"] + rest["data"]] == ["intents@2", "intents@1"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert rest["data"] == [one]
    assert (one["is_champion"], one["is_challenger"], one["parent"]) == (True, False, None)
    assert first["data"][0]["is_challenger"]


def test_a_promotion_and_its_rollback_are_kept_and_audited(taught):
    with taught.client("promoter") as client:
        promoted = client.post("/v1/promotions", json={"lineage": "intents"})
        body = {"lineage": "intents", "expected_champion": promoted.json()["version"]}
        undone = client.post("/v1/rollbacks", json=body)
        again = client.post("/v1/rollbacks", json=body)
        listed = client.get("/v1/promotions?lineage=intents").json()["data"]
        page = client.get(
            "/v1/promotions", params={"lineage": "intents", "after": "intents#3", "limit": 1}
        ).json()

    assert (promoted.status_code, undone.status_code) == (201, 201)
    assert (promoted.json()["kind"], promoted.json()["version"]) == ("manual", 2)
    assert (undone.json()["version"], undone.json()["previous"]) == (1, 2)
    assert (again.status_code, again.json()["error"]["param"]) == (409, "expected_champion")
    assert [one["kind"] for one in listed] == ["rollback", "manual", "refused", "promoted"]
    assert [one["sequence"] for one in page["data"]] == [2]
    actions = [entry.action for entry in list_audit(taught.db, object_id="intents")]
    assert actions == ["lineage.rollback", "lineage.promote"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"lineage": "intents", "version": 9}, 404, "version_not_found"),
        ({"lineage": "intents", "version": 1}, 409, "invalid_transition"),
        ({"lineage": "intents", "version": 2, "expected_champion": 2}, 409, "stale_champion"),
        ({"lineage": "intents", "version": 2, "expected_champion": None}, 409, "stale_champion"),
        ({"lineage": "intents", "version": 0}, 400, "invalid_request"),
        ({"lineage": "intents", "version": 2**31}, 400, "invalid_request"),
        ({"lineage": "intents", "version": True}, 400, "invalid_request"),
        ({"lineage": "intents", "version": "2"}, 400, "invalid_request"),
        ({"lineage": "in/tents"}, 400, "invalid_request"),
        ({"lineage": "intents-none"}, 404, "lineage_not_found"),
        ({"lineage": "other"}, 404, "lineage_not_found"),
        ({"lineage": "intents", "champion": 1}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ],
)
def test_a_promotion_that_cannot_be_is_refused(taught, body, status, code):
    with taught.client("promoter") as client:
        response = client.post("/v1/promotions", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_the_champion_that_is_expected_may_be_replaced(taught):
    body = {"lineage": "intents", "version": 2, "expected_champion": 1}
    with taught.client("promoter") as client:
        assert client.post("/v1/promotions", json=body).status_code == 201


def test_nothing_is_rolled_back_where_nothing_was_before(served):
    served.teach()
    with served.client("promoter") as client:
        response = client.post("/v1/rollbacks", json={"lineage": "intents"})

    assert response.status_code == 409


@pytest.mark.parametrize(
    "path",
    [
        "/v1/lineages/intents",
        "/v1/versions?lineage=intents",
        "/v1/versions/intents/1",
        "/v1/promotions?lineage=intents",
        "/v1/models/intents",
        "/v1/models/intents@1",
    ],
)
def test_an_unseen_lineage_does_not_exist(taught, path):
    with taught.client("stranger") as client:
        seen, unknown = client.get(path), client.get(path.replace("intents", "nothing"))

    assert (seen.status_code, unknown.status_code) == (404, 404)
    assert seen.json()["detail"].replace("intents", "X") == unknown.json()["detail"].replace(
        "nothing", "X"
    )


def test_a_stranger_sees_no_lineage_in_any_list(taught):
    with taught.client("stranger") as client:
        assert client.get("/v1/lineages").json()["data"] == []
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["minilm"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/versions", 400),
        ("/v1/versions?lineage=intents&after=other@1", 400),
        ("/v1/versions?lineage=intents&after=intents@x", 400),
        ("/v1/promotions?lineage=intents&after=9", 400),
        ("/v1/versions/intents/0", 400),
        ("/v1/versions/intents/x", 400),
        ("/v1/versions/intents/9", 404),
        ("/v1/models/intents@9", 404),
        ("/v1/models/intents@-1", 404),
        ("/v1/models/a/b/c", 404),
    ],
)
def test_an_address_that_names_nothing_is_refused(taught, path, status):
    with taught.client("viewer") as client:
        assert client.get(path).status_code == status


def test_a_key_is_told_what_it_may(served):
    with served.client("submitter") as client:
        me = client.get("/v1/me").json()

    assert (me["role"], me["name"], me["lineages"]) == ("submitter", "submitter", ["intents*"])
    assert me["requests_per_minute"] == 60_000
    assert served.secrets["submitter"].startswith(f"rk_{me['prefix']}_")
    assert served.secrets["submitter"] not in str(me)

"""Covers, beside `asking`: `failures`, `operations`."""

import inspect

import httpx
import pytest

from ratchet.pipelines.errors import Problem
from ratchet.service import errors
from ratchet.service.client import AsyncClient, Client
from ratchet.service.client.failures import error_of
from ratchet.service.errors import ServiceError, problem_document
from tests.service.client.scripted import JOB, Script, call, ok

BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])
CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ServiceError) and "code" in vars(kind)
]


def refusal(kind, **headers):
    return httpx.Response(kind.status, json=problem_document(kind("no"), "/"), headers={**headers})


@pytest.mark.parametrize("kind", CLASSES)
def test_a_refusal_is_raised_as_what_the_server_raised_with_every_problem(kind):
    problems = [Problem("methods[1].strength", "must be positive", -1), Problem("lineage", "no")]
    document = problem_document(kind("two things", "lineage", problems), "/v1/updates")
    request = httpx.Request("POST", "http://x/v1/updates")
    found = error_of(httpx.Response(kind.status, json=document, request=request))
    assert (found.code, found.status) == (kind.code, kind.status)
    assert (str(found), found.param) == ("two things", "lineage")
    assert [str(problem) for problem in found.problems] == [str(each) for each in problems]
    assert [problem.where for problem in found.problems] == ["methods[1].strength", "lineage"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(502, errors.UnavailableError), (401, errors.KeyRefusedError), (418, ServiceError)],
)
def test_an_answer_that_is_not_the_services_own_is_an_error_too(status, kind):
    request = httpx.Request("GET", "http://x/v1/updates")
    found = error_of(httpx.Response(status, text="<html>a proxy</html>", request=request))
    assert type(found) is kind
    assert f"answered {status}" in str(found)
    assert "a proxy" in str(found)


@BOTH
def test_a_call_without_effects_is_sent_again_when_its_answer_was_lost(kind):
    script = Script(httpx.ReadError("lost"), httpx.Response(502), ok(JOB))
    assert call(kind, script, "get", JOB["id"]).status == "running"
    assert len(script.requests) == 3
    assert script.requests[0].headers["authorization"] == "Bearer key"


@BOTH
def test_a_submission_is_sent_again_with_the_same_key(kind):
    script = Script(httpx.ReadError("lost"), ok(JOB))
    assert call(kind, script, "submit", {"lineage": "tiny"}).id == JOB["id"]
    keys = {request.headers["idempotency-key"] for request in script.requests}
    assert len(script.requests) == 2
    assert len(keys) == 1
    assert (
        script.bodies[0]
        == script.bodies[1]
        == {
            "spec": {"lineage": "tiny"},
            "priority": 0,
            "metadata": {},
        }
    )
    again = Script(ok(JOB))
    call(kind, again, "submit", {"lineage": "tiny"})
    assert again.requests[0].headers["idempotency-key"] not in keys


@BOTH
@pytest.mark.parametrize("operation", ["cancel", "pause", "resume", "rollback", "promote"])
def test_what_must_not_happen_twice_is_sent_once_when_its_answer_was_lost(kind, operation):
    script = Script(httpx.ReadError("lost"))
    with pytest.raises(errors.UnavailableError, match="ratchet up"):
        call(kind, script, operation, "tiny")
    assert len(script.requests) == 1


@BOTH
@pytest.mark.parametrize("operation", ["rollback", "promote"])
def test_what_must_not_happen_twice_is_sent_once_when_the_database_went_away(kind, operation):
    script = Script(refusal(errors.DatabaseUnavailableError, **{"retry-after": "0"}), ok(JOB))
    with pytest.raises(errors.UnavailableError):
        call(kind, script, operation, "tiny")
    assert len(script.requests) == 1


@BOTH
def test_what_never_arrived_is_sent_again_whatever_it_is(kind):
    script = Script(httpx.ConnectError("refused"), ok(JOB))
    call(kind, script, "cancel", JOB["id"])
    assert [request.url.path for request in script.requests] == [
        f"/v1/updates/{JOB['id']}/cancel"
    ] * 2


@BOTH
def test_a_busy_server_is_asked_again_when_it_says(kind):
    script = Script(refusal(errors.OverloadedError, **{"retry-after": "0"}), ok(JOB))
    call(kind, script, "cancel", JOB["id"])
    assert len(script.requests) == 2


@BOTH
def test_a_server_with_too_many_connections_is_asked_again_where_that_changes_nothing(kind):
    full = httpx.Response(503, text="Service Unavailable")
    script = Script(full, ok(JOB))
    assert call(kind, script, "get", JOB["id"]).id == JOB["id"]
    script = Script(full)
    with pytest.raises(errors.UnavailableError):
        call(kind, script, "rollback", "tiny")
    assert len(script.requests) == 1


@BOTH
def test_a_full_quota_is_said_at_once(kind):
    script = Script(refusal(errors.QuotaExceededError, **{"retry-after": "30"}))
    with pytest.raises(errors.QuotaExceededError):
        call(kind, script, "submit", {"lineage": "tiny"})
    assert len(script.requests) == 1


@BOTH
def test_a_server_that_stays_away_is_given_up_on_with_its_address(kind):
    script = Script(httpx.ConnectError("refused"))
    with pytest.raises(errors.UnavailableError, match=r"url: .*refused.*RATCHET_URL"):
        call(kind, script, "lineages")
    assert len(script.requests) == 4


@BOTH
def test_lists_are_read_page_after_page(kind):
    def page(request):
        start = int(request.url.params.get("after", "0"))
        size = int(request.url.params["limit"])
        data = [{**JOB, "id": str(number)} for number in range(start + 1, start + 1 + size)]
        content = {"data": data, "has_more": True, "last_id": data[-1]["id"]}
        return ok(content)

    script = Script(page)
    found = call(kind, script, "list", lineage="tiny", limit=150)
    assert [job.id for job in found] == [str(number) for number in range(1, 151)]
    assert [request.url.params["limit"] for request in script.requests] == ["100", "50"]
    assert {request.url.params["lineage"] for request in script.requests} == {"tiny"}


@BOTH
def test_the_router_is_asked_without_the_key(kind):
    script = Script(ok({"data": []}))
    call(kind, script, "models")
    assert "authorization" not in script.requests[0].headers
    assert script.requests[0].url.port == 8000

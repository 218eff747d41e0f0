"""Covers `routes.jobs`, `routes.job_actions`, `routes.parameters`, `submissions`, `views`,
`job_logs`, `schemas.jobs`, `schemas.json_fields`.

Jobs in the native dialect.
"""

import pytest
import yaml

from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.store.audit import list_audit
from ratchet.service.store.running_jobs import end_paused, fail, requeue

KINDS = [("/v1/updates", "ftjob"), ("/v1/studies", "study"), ("/v1/plans", "plan")]
TUNE = {"parameters": {"training.learning_rate": {"log": [1.0e-5, 1.0e-3]}}, "num_trials": 2}


@pytest.mark.parametrize(("path", "prefix"), KINDS)
def test_a_job_is_accepted_and_found(served, path, prefix):
    spec = served.spec(tune=TUNE)
    with served.client() as client:
        response = client.post(
            path, json={"spec": spec, "priority": 3, "metadata": {"team": "bank"}}
        )
        job = response.json()

        assert response.status_code == 202
        assert response.headers["location"] == f"{path}/{job['id']}"
        assert job["id"].startswith(f"{prefix}-")
        assert (job["status"], job["phase"], job["attempt"]) == ("queued", "waiting", 0)
        assert (job["lineage"], job["priority"], job["metadata"]) == (
            "intents",
            3,
            {"team": "bank"},
        )
        assert job["spec"] == spec
        assert client.get(response.headers["location"]).json() == job
        assert [one["id"] for one in client.get(path).json()["data"]] == [job["id"]]
    (entry,) = list_audit(served.db, object_id=job["id"])
    assert (entry.action.endswith(".create"), entry.address) == (True, "testclient")


def test_a_job_of_one_kind_is_not_found_under_another(served):
    job_id = served.submit()

    with served.client() as client:
        assert client.get(f"/v1/studies/{job_id}").status_code == 404
        assert client.post(f"/v1/plans/{job_id}/cancel").status_code == 404


def test_a_spec_may_come_as_yaml(served):
    spec = served.spec()
    with served.client() as client:
        job = client.post("/v1/updates", json={"spec_yaml": yaml.safe_dump(spec)}).json()

    assert job["spec"] == spec


def test_every_problem_of_a_spec_is_told_with_its_pointer(served):
    spec = {
        "lineage": "elsewhere",
        "model": {"name": "../../etc", "poolin": "cls"},
        "tasks": [{"name": "a/b", "train": "/etc/passwd", "test": "file-000000000000000000000000"}],
        "evaluation": {"joint": "/etc", "retention": {"test": "http://169.254.169.254/x"}},
        "routing": {"out_of_scope": "/etc/hostname"},
        "methods": [{"type": "mixed_data", "sources": ["/etc/shadow"]}, {"type": "ewc", "x~/y": 1}],
        "tune": {"parameters": {"tasks.0.train": {"choice": ["/etc/passwd", "/etc/hosts"]}}},
        "entrypoint": "rm -rf /",
        "runtime_env": {"env_vars": {"A": "b"}},
        "home": "/etc",
        "tracking": "http://x",
    }
    with served.client() as client:
        response = client.post("/v1/updates", json={"spec": spec})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["error"]["code"] == "invalid_spec"
    pointers = {error["pointer"] for error in problem["errors"]}
    assert pointers >= {
        "#/spec/lineage",
        "#/spec/model/name",
        "#/spec/model/poolin",
        "#/spec/tasks/0/name",
        "#/spec/tasks/0/train",
        "#/spec/tasks/0/test",
        "#/spec/evaluation/joint",
        "#/spec/evaluation/retention/test",
        "#/spec/routing/out_of_scope",
        "#/spec/methods/0/sources/0",
        "#/spec/methods/1/x~0~1y",
        "#/spec/tune/parameters/tasks.0.train",
        "#/spec/entrypoint",
        "#/spec/runtime_env",
        "#/spec/home",
        "#/spec/tracking",
    }


def test_the_answer_does_not_say_whether_a_file_outside_exists(served):
    details = []
    for path in ("/etc/passwd", "/etc/no-such-file"):
        with served.client() as client:
            problem = client.post("/v1/updates", json={"spec": served.spec(train=path)}).json()
        details.append([error["detail"].replace(path, "X") for error in problem["errors"]])

    assert details[0] == details[1]


@pytest.mark.parametrize(
    "parameters",
    [
        {"model.name": {"choice": ["/etc", "/root"]}},
        {"model": {"choice": [{"name": "/etc"}, {"name": "/root"}]}},
        {"methods": {"choice": [[], [{"type": "mixed_data", "sources": ["/etc/passwd"]}]]}},
        {"methods.mixed_data.sources": {"choice": [["/etc/passwd"], ["/etc/hosts"]]}},
        {"evaluation.retention.test": {"choice": ["/etc/passwd", "/etc/hosts"]}},
        {"routing.out_of_scope": {"choice": ["/etc/passwd", "/etc/hosts"]}},
        {"columns.x": {"choice": [{"train": "/etc/passwd"}, 1]}},
    ],
)
def test_a_study_cannot_search_its_way_to_other_files(served, parameters):
    tune = {"parameters": parameters}
    with served.client() as client:
        response = client.post("/v1/studies", json={"spec": served.spec(tune=tune)})

    assert response.status_code == 422
    details = [error["detail"] for error in response.json()["errors"]]
    assert any("cannot be searched" in detail for detail in details)


@pytest.mark.parametrize(
    ("parameter", "pointer"),
    [
        ({"training.learning_rate": {"log": [1, "x"]}}, "training.learning_rate/log/1"),
        ({"training.learning_rate": {"log": [2, 1]}}, "training.learning_rate"),
        ({"training.learning_rate": {"log": [1, 2], "a.b": 3}}, "training.learning_rate/a.b"),
        ({"training.learning_rate": {}}, "training.learning_rate"),
        ({"methods.0.choice": {"choice": [1]}}, "methods.0.choice/choice"),
    ],
)
def test_a_searched_field_is_one_step_of_a_pointer(served, parameter, pointer):
    tune = {"parameters": parameter}
    with served.client() as client:
        response = client.post("/v1/studies", json={"spec": served.spec(tune=tune)})

    pointers = [error["pointer"] for error in response.json()["errors"]]
    assert f"#/spec/tune/parameters/{pointer}" in pointers


def test_a_study_needs_something_to_search(served):
    with served.client() as client:
        response = client.post("/v1/studies", json={"spec": served.spec()})

    assert response.json()["errors"][0]["pointer"] == "#/spec/tune"


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 400, "#"),
        ({"spec": {}, "spec_yaml": "a: 1"}, 400, "#"),
        ({"spec": []}, 400, "#/spec"),
        ({"spec": {}, "entrypoint": "x"}, 400, "#/entrypoint"),
        ({"spec": {}, "priority": 101}, 400, "#/priority"),
        ({"spec": {}, "priority": "1"}, 400, "#/priority"),
        ({"spec": {}, "metadata": {"a": 1}}, 400, "#/metadata/a"),
        ({"spec": {}, "metadata": {"a.b[0]": 1}}, 400, "#/metadata/a.b%5B0%5D"),
        ({"spec": {}, "metadata": {"a": "x" * 513}}, 400, "#/metadata/a"),
        ({"spec": {}, "metadata": {str(n): "" for n in range(17)}}, 400, "#/metadata"),
        ({"spec": {}, "metadata": {"ratchet.openai": "{}"}}, 400, "#/metadata"),
        ({"spec_yaml": "a: &a [*a]"}, 422, "#/spec_yaml"),
        ({"spec_yaml": "[1]"}, 422, "#/spec_yaml"),
        ({"spec_yaml": "lineage: 1"}, 422, "#/spec_yaml"),
        ({"spec": {"lineage": "x\0"}}, 400, "#/spec/lineage"),
        ({"spec": {"a.b": {"c/d": "x\0"}}}, 400, "#/spec/a.b/c~1d"),
        ({"spec": {"a.b": 1}}, 422, "#/spec/a.b"),
        ([], 400, "#"),
        ("spec", 400, "#"),
    ],
)
def test_a_body_that_is_no_submission_is_refused(served, body, status, pointer):
    with served.client() as client:
        response = client.post("/v1/updates", json=body)

    assert response.status_code == status, response.text
    assert pointer in [error["pointer"] for error in response.json()["errors"]]


def test_the_same_idempotency_key_and_body_is_one_job(served):
    spec = served.spec()
    other = served.spec(lineage="intents-2")
    headers = {"Idempotency-Key": "once"}
    with served.client() as client:
        first = client.post("/v1/updates", json={"spec": spec}, headers=headers)
        again = client.post("/v1/updates", json={"spec": spec}, headers=headers)
        changed = client.post("/v1/updates", json={"spec": other}, headers=headers)
        anew = client.post("/v1/updates", json={"spec": spec}, headers={"Idempotency-Key": "two"})
        odd = client.post(
            "/v1/updates", json={"spec": spec}, headers={"Idempotency-Key": "x" * 256}
        )

    assert (first.status_code, again.status_code, changed.status_code) == (202, 202, 422)
    assert first.json()["id"] == again.json()["id"] != anew.json()["id"]
    assert changed.json()["error"]["code"] == "idempotency_mismatch"
    assert odd.status_code == 400
    assert len(list_audit(served.db, object_id=first.json()["id"])) == 1


def test_lists_are_paged_newest_first_and_restricted(served):
    ids = [served.submit(lineage=f"intents-{n % 2}", joint=bool(n % 3)) for n in range(5)]
    newest = ids[::-1]
    with served.client() as client:
        first = client.get("/v1/updates?limit=2").json()
        rest = client.get(f"/v1/updates?limit=10&after={first['last_id']}").json()
        one = client.get("/v1/updates?lineage=intents-1").json()
        none = client.get("/v1/updates?status=failed").json()

    assert [job["id"] for job in first["data"]] == newest[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, newest[0], newest[1])
    assert [job["id"] for job in rest["data"]] == newest[2:]
    assert rest["has_more"] is False
    assert {job["lineage"] for job in one["data"]} == {"intents-1"}
    assert none == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_metadata_finds_jobs(served):
    spec = served.spec()
    with served.client() as client:
        for team in ("bank", "shop"):
            client.post("/v1/updates", json={"spec": spec, "metadata": {"team": team, "a b": "ä"}})
        found = client.get("/v1/updates", params={"metadata[team]": "bank", "metadata[a b]": "ä"})
        many = client.get("/v1/updates", params={f"metadata[{n}]": "x" for n in range(17)})

    assert [job["metadata"]["team"] for job in found.json()["data"]] == ["bank"]
    assert many.status_code == 400


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=gone", "limit=" + "9" * 5000, "after=%00"]
)
def test_a_query_that_makes_no_sense_is_refused(served, query):
    with served.client() as client:
        response = client.get(f"/v1/updates?{query}")

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_job_is_paused_resumed_and_cancelled(served):
    job_id = served.submit()
    with served.client() as client:
        states = [
            client.post(f"/v1/updates/{job_id}/{wish}").json()["status"]
            for wish in ("pause", "resume", "cancel")
        ]
        late = client.post(f"/v1/updates/{job_id}/resume")

    assert states == ["paused", "queued", "cancelled"]
    assert (late.status_code, late.json()["error"]["code"]) == (409, "invalid_transition")
    actions = [entry.action for entry in list_audit(served.db, object_id=job_id)]
    assert actions == ["update.cancel", "update.resume", "update.pause", "update.create"]


def test_a_running_job_shows_its_progress_and_that_its_end_was_asked_for(served):
    job_id = served.submit()
    progress = {"task": "banking", "index": 1, "num_tasks": 1, "step": 3, "num_steps": 9}
    served.tell(served.claim(), phase="training", progress=Progress(**progress))
    with served.client() as client:
        job = client.post(f"/v1/updates/{job_id}/cancel").json()

    assert (job["status"], job["phase"], job["cancel_requested"]) == ("running", "training", True)
    assert job["progress"] == {**progress, "seconds_left": None}
    assert job["pause_requested"] is False


def test_a_pause_that_was_accepted_shows_until_the_job_is_paused(served):
    job_id = served.submit()
    running = served.claim()
    with served.client() as client:
        asked = client.post(f"/v1/updates/{job_id}/pause").json()
        end_paused(served.db, served.lease, running)
        paused = client.get(f"/v1/updates/{job_id}").json()

    seen = [(job["status"], job["pause_requested"]) for job in (asked, paused)]
    assert seen == [("running", True), ("paused", False)]


@pytest.mark.parametrize("path", ["/v1/updates", "/v1/fine_tuning/jobs"])
def test_a_lost_attempt_is_no_error_of_a_job_that_did_not_fail(served, path):
    job_id = served.submit()
    lost = JobError(code="lost", message="the machine is gone")
    with served.client() as client:
        running = served.claim()
        requeue(served.db, served.lease, running, lost, 0.0)
        queued = client.get(f"{path}/{job_id}").json()
        again = served.claim()
        fail(served.db, served.lease, again, lost)
        failed = client.get(f"{path}/{job_id}").json()

    assert (queued["status"], queued["error"]) == ("queued", None)
    assert (failed["status"], failed["error"]["message"]) == ("failed", "the machine is gone")


@pytest.mark.parametrize("decision", ["promoted", "refused"])
def test_the_gates_decision_is_part_of_a_job_that_succeeded(served, decision):
    job_id = served.teach(decision=decision, reasons=("banking fell by 0.1",))
    with served.client() as client:
        job = client.get(f"/v1/updates/{job_id}").json()

    assert job["status"] == "succeeded"
    assert job["promotion"] == {
        "decision": decision,
        "version": 1,
        "reasons": ["banking fell by 0.1"],
    }


@pytest.mark.parametrize("tail", ["", "/events", "/logs"])
def test_a_job_of_an_unseen_lineage_does_not_exist(served, tail):
    job_id = served.submit()
    with served.client("stranger") as client:
        seen = client.get(f"/v1/updates/{job_id}{tail}")
        unknown = client.get(f"/v1/updates/ftjob-{'0' * 24}{tail}")
        listed = client.get("/v1/updates").json()["data"]
        page = client.get(f"/v1/updates?after={job_id}")

    assert (seen.status_code, unknown.status_code, page.status_code) == (404, 404, 404)
    assert seen.json()["detail"].replace(job_id, "X") == unknown.json()["detail"].replace(
        f"ftjob-{'0' * 24}", "X"
    )
    assert listed == []


def test_events_are_paged_oldest_first(served):
    job_id = served.submit()
    served.tell(served.claim(), *(f"step {n}" for n in range(8)))
    with served.client() as client:
        first = client.get(f"/v1/updates/{job_id}/events?limit=4").json()
        rest = client.get(f"/v1/updates/{job_id}/events?after={first['last_id']}").json()
        other = client.get(f"/v1/updates/{job_id}/events?after=ftevent-{'0' * 24}-000001")

    messages = [event["message"] for event in first["data"] + rest["data"]]
    assert messages[2:] == [f"step {n}" for n in range(8)]
    assert [event["id"][-6:] for event in rest["data"]] == [f"{n:06d}" for n in range(5, 11)]
    assert (first["has_more"], rest["has_more"], other.status_code) == (True, False, 400)


def test_logs_are_read_in_pieces_that_cut_no_character(served):
    job_id = served.submit()
    folder = served.settings.home / "jobs" / job_id
    with served.client() as client:
        path = f"/v1/updates/{job_id}/logs"
        before = client.get(path).json()
        served.claim()
        folder.mkdir(parents=True)
        (folder / "driver-1.log").write_bytes("abcdefghijklmno€ rest\n".encode() + b"\xe2\x82")
        first = client.get(f"{path}?limit=16").json()
        second = client.get(f"{path}?limit=100&offset={first['next_offset']}").json()
        ahead = client.get(f"{path}?attempt=2")
        far = client.get(f"{path}?offset=1000").json()

    assert before == {"attempt": 0, "text": "", "next_offset": 0, "ended": False}
    assert (first["text"], first["next_offset"]) == ("abcdefghijklmno", 15)
    assert (second["text"], second["next_offset"], second["ended"]) == ("€ rest\n", 24, False)
    assert ahead.status_code == 404
    assert (far["text"], far["next_offset"]) == ("", 1000)


def test_a_log_that_is_a_link_is_not_followed(served):
    job_id = served.submit()
    served.claim()
    folder = served.settings.home / "jobs" / job_id
    folder.mkdir(parents=True)
    (folder / "driver-1.log").symlink_to("/etc/passwd")
    with served.client(raise_server_exceptions=False) as client:
        response = client.get(f"/v1/updates/{job_id}/logs")

    assert response.status_code == 404
    assert "root:" not in response.text

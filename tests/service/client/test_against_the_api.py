"""Covers `client`, `drivers`."""

import threading
import time

import pytest

from ratchet.service.client import AsyncClient, Client, UnfinishedError
from ratchet.service.errors import (
    ForbiddenError,
    InvalidSpecError,
    JobNotFoundError,
    KeyRefusedError,
    StaleChampionError,
)
from ratchet.service.store.audit import record
from ratchet.service.store.files import list_files
from tests.service.api.served import ROWS, listening, serve
from tests.service.client.both import Both

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path):
    made = serve(tmp_path / "home")
    yield made
    made.db.dispose()


@pytest.fixture
def url(served):
    with listening(served.app) as url:
        yield url


@pytest.fixture(params=[Client, AsyncClient])
def client(request, served, url):
    with Both(request.param, url, served.secrets["promoter"]) as both:
        yield both


def spec_of(folder, **changes):
    path = folder / "train.jsonl"
    path.write_bytes(ROWS)
    task = {"name": "banking", "train": str(path)}
    spec = {"lineage": "intents", "model": {"name": "minilm"}, "tasks": [task]}
    return {**spec, "methods": [{"type": "ewc"}], **changes}


def test_a_job_is_submitted_found_and_cancelled(client, tmp_path):
    job = client.submit(spec_of(tmp_path), priority=3, metadata={"team": "blue"})
    assert (job.object, job.status, job.priority) == ("update", "queued", 3)
    assert job.spec["tasks"][0]["train"].startswith("file-")
    assert client.get(job.id) == job
    assert [found.id for found in client.list(lineage="intents", status="queued")] == [job.id]
    assert client.list(status="failed") == []
    assert client.cancel(job.id).status == "cancelled"
    assert client.wait(job.id, timeout=30).status == "cancelled"


def test_files_sent_before_are_found_again(client, served, tmp_path):
    first = client.submit(spec_of(tmp_path), idempotency_key="yesterday")
    again = client.submit(spec_of(tmp_path), idempotency_key="yesterday")
    other = client.submit(spec_of(tmp_path))
    assert first.id == again.id != other.id
    assert other.spec["tasks"] == first.spec["tasks"]
    assert len(list_files(served.db)) == 1


def test_a_submission_with_the_same_key_is_the_same_job(client, tmp_path):
    first = client.submit(spec_of(tmp_path), idempotency_key="one")
    again = client.submit(first.spec, idempotency_key="one")
    assert again.id == first.id


def test_everything_wrong_with_a_spec_is_said_at_once(client, tmp_path):
    wrong = spec_of(tmp_path, methods=[{"type": "ewc", "strength": -1}], lineages="x")
    with pytest.raises(InvalidSpecError) as caught:
        client.submit(wrong)
    places = {problem.where for problem in caught.value.problems}
    assert {"spec.methods[0].strength", "spec.lineages"} <= places


def test_a_study_and_a_plan_have_places_of_their_own(client, tmp_path):
    tune = {"parameters": {"training.learning_rate": {"log": [1e-5, 1e-3]}}, "num_trials": 2}
    study = client.submit(spec_of(tmp_path, tune=tune), kind="study")
    plan = client.submit(spec_of(tmp_path), kind="plan")
    assert (study.object, plan.object) == ("study", "plan")
    assert [job.id for job in client.list(kind="study")] == [study.id]
    assert client.get(plan.id).id == plan.id
    assert client.cancel(study.id).status == "cancelled"


def test_events_are_followed_while_they_come_and_end_with_the_job(client, served, tmp_path):
    queued = client.submit(spec_of(tmp_path))
    job = served.claim()

    def work():
        time.sleep(0.5)
        told = served.tell(job, "reading the data")
        time.sleep(0.5)
        served.tell(told, "line\u2028separator\x85in a message")
        with Client(client.url, client.key) as other:
            other.cancel(job.id)

    thread = threading.Thread(target=work)
    thread.start()
    heard = []
    with pytest.raises(UnfinishedError):
        client.wait(queued.id, timeout=4, on_event=heard.append)
    thread.join()
    assert client.get(queued.id).cancel_requested
    messages = [event.message for event in heard]
    assert messages.index("reading the data") < messages.index(
        "line\u2028separator\x85in a message"
    )
    assert [event.id for event in heard] == [event.id for event in client.past_events(queued.id)]


def test_an_ended_jobs_events_are_all_read(client, served):
    job_id = served.teach()
    assert [e.id for e in client.events(job_id)] == [e.id for e in client.past_events(job_id)]
    job = client.wait(job_id)
    assert (job.status, job.promotion.decision, job.promotion.version) == (
        "succeeded",
        "promoted",
        1,
    )


def test_versions_are_promoted_and_rolled_back(client, served):
    served.teach(1)
    served.teach(2, decision="refused", reasons=["banking lost 0.1"])
    assert [lineage.name for lineage in client.lineages()] == ["intents"]
    own = client.lineage("intents")
    assert (own.champion, own.challenger) == (1, 2)
    assert sorted(version.number for version in client.versions("intents")) == [1, 2]
    with pytest.raises(StaleChampionError):
        client.promote("intents", 2, expected_champion=None)
    made = client.promote("intents", expected_champion=1)
    assert (made.version, made.previous, made.kind) == (2, 1, "manual")
    assert client.version("intents", 2).is_champion
    assert client.rollback("intents").version == 1
    kinds = [promotion.kind for promotion in client.promotions("intents")]
    assert sorted(kinds) == ["manual", "promoted", "refused", "rollback"]


def test_refusals_are_raised_by_name(served, url, tmp_path):
    with pytest.raises(KeyRefusedError), Client(url, "rk_wrong") as client:
        client.me()
    with Client(url, served.secrets["viewer"]) as client:
        assert client.me().role == "viewer"
        with pytest.raises(JobNotFoundError):
            client.get("ftjob-" + "0" * 24)
        with pytest.raises(ForbiddenError):
            client.submit(spec_of(tmp_path))


def test_logs_are_read_as_they_are_written(served, url, tmp_path):
    with Client(url, served.secrets["submitter"]) as client:
        job = client.submit(spec_of(tmp_path))
        claimed = served.claim()
        folder = served.settings.home / "jobs" / job.id
        folder.mkdir(parents=True)
        (folder / "driver-1.log").write_text("first line\n", encoding="utf-8")
        assert claimed.attempt == 1
        assert "".join(client.logs(job.id)) == "first line\n"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_administrator_reads_the_audit_trail_page_after_page(served, url, kind, tmp_path):
    with Both(kind, url, served.secrets["promoter"]) as client:
        job = client.submit(spec_of(tmp_path))
        with pytest.raises(ForbiddenError, match="admin"):
            client.audit()
    for number in range(120):
        record(served.db, "file.create", f"file-{number}")
    with Both(kind, url, served.secrets["admin"]) as admin:
        made = admin.audit(target=job.id)
        uploads = admin.audit(action="file.create", limit=None)
        latest = admin.audit(limit=110)
        assert admin.audit(since=made[0].created_at + 3600) == []
        assert admin.audit(key=made[0].key_prefix, action="update.create") == made
    assert [(one.action, one.target) for one in made] == [("update.create", job.id)]
    assert [one.target for one in uploads[:120]] == [f"file-{n}" for n in range(119, -1, -1)]
    assert len(uploads) == 121
    assert len(latest) == 110

"""The official client, unchanged, against a real server."""

import io
import json

import openai
import pytest

from ratchet.service.store.records import NewEvent
from tests.service.api.served import ROWS

pytestmark = pytest.mark.slow

CHAT = (
    json.dumps(
        {
            "messages": [
                {"role": "system", "content": "Name the intent."},
                {"role": "user", "content": "my card is lost"},
                {"role": "assistant", "content": "card"},
            ]
        }
    )
    + "\n"
).encode()


@pytest.fixture
def client(address, served):
    return openai.OpenAI(
        base_url=f"{address}/v1", api_key=served.secrets["submitter"], max_retries=0
    )


@pytest.fixture
def file_id(client):
    file = client.files.create(file=("banking.train.jsonl", io.BytesIO(ROWS)), purpose="fine-tune")
    assert file.bytes == len(ROWS)
    return file.id


def test_a_job_is_created_listed_retrieved_and_cancelled(client, file_id):
    job = client.fine_tuning.jobs.create(
        model="minilm",
        training_file=file_id,
        suffix="intents",
        seed=7,
        metadata={"team": "bank"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )

    assert job.id.startswith("ftjob-")
    assert (job.status, job.model, job.training_file, job.seed) == ("queued", "minilm", file_id, 7)
    assert (job.hyperparameters.n_epochs, job.metadata) == (2, {"team": "bank"})
    assert [one.id for one in client.fine_tuning.jobs.list()] == [job.id]
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"team": "bank"})] == [job.id]
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"team": "other"})] == []
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_retried_creation_is_one_job(client, file_id):
    first, second = (
        client.fine_tuning.jobs.create(model="minilm", training_file=file_id, suffix="intents")
        for _ in range(2)
    )

    assert first.id == second.id


def test_events_are_followed_page_by_page(client, served, file_id):
    job_id = client.fine_tuning.jobs.create(
        model="minilm", training_file=file_id, suffix="intents"
    ).id
    told = [f"step {n}" for n in range(45)]
    place = {"step": 40, "step_number": 120}  # of the task, of the job
    served.tell(served.claim(), *told, NewEvent("saved", type="checkpoint", data=place))

    events = list(client.fine_tuning.jobs.list_events(job_id, limit=20))

    assert [e.message for e in events[:2]] == ["saved", "step 44"]
    assert len(events) == len({e.id for e in events}) == 45 + 3
    assert {e.type for e in events} == {"message"}
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job_id))
    assert [c.step_number for c in checkpoints] == [120]
    assert checkpoints[0].fine_tuning_job_id == job_id


def test_a_job_is_paused_and_resumed(client, file_id):
    job = client.fine_tuning.jobs.create(model="minilm", training_file=file_id, suffix="intents")

    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"


def test_files_are_listed_read_and_deleted(client, file_id):
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [file_id]
    assert client.files.retrieve(file_id).filename == "banking.train.jsonl"
    assert client.files.content(file_id).read() == ROWS
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def test_models_are_listed_and_retrieved(client, served):
    served.teach()

    names = [model.id for model in client.models.list()]

    assert names == ["minilm", "intents", "intents@1"]
    assert client.models.retrieve("intents@1").created > 0
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing")
    assert caught.value.param == "model"


def test_an_error_is_read_by_the_client(client, file_id):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.fine_tuning.jobs.create(
            model="minilm", training_file=file_id, suffix="a b", metadata={"preset": "ewk"}
        )
    assert caught.value.code == "invalid_spec"
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-nothing")
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="minilm", training_file="file-1", suffix="intents")
    assert caught.value.param == "training_file"


def test_a_wrong_key_is_an_authentication_error(address):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="sk-123", max_retries=0)

    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_chats_become_labelled_texts_and_an_event_says_so(client, served):
    file = client.files.create(file=("cards.jsonl", io.BytesIO(CHAT)), purpose="fine-tune")

    job = client.fine_tuning.jobs.create(
        model="minilm", training_file=file.id, suffix="intents", validation_file=file.id
    )

    assert (job.training_file, job.validation_file) == (file.id, file.id)
    messages = [e.message for e in client.fine_tuning.jobs.list_events(job.id)]
    assert any("holds chats" in message for message in messages)
    with served.client() as native:
        read = native.get(f"/v1/updates/{job.id}").json()["spec"]["tasks"][0]["train"]
    assert read != file.id
    labelled = next(served.settings.home.glob("files/*/*"), None)
    contents = [p.read_bytes() for p in served.settings.home.glob("files/??/*.jsonl")]
    assert labelled is not None
    assert b'{"text": "my card is lost", "label": "card"}\n' in contents

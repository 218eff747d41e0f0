"""Covers, beside `fine_tuning`: `chats`, `base_models`, `openai_views`, `request_entry`,
`request_places`, `routes.fine_tuning`, `routes.models`, `schemas.openai`.

Requests in OpenAI's words, and the specs that they become.
"""

import json

import pytest
from sqlalchemy import update

from ratchet.pipelines.spec.presets import read_preset
from ratchet.service.store.records import NewEvent
from ratchet.service.store.tables import jobs
from tests.service.api.served import ROWS

PRESET = read_preset("ewc")["training"]
MULTIPLIER = "hyperparameters.learning_rate_multiplier"


def supervised(**hyperparameters):
    given = {"hyperparameters": hyperparameters}
    return {"method": {"type": "supervised", "supervised": given}}


def create(served, role="submitter", **changes):
    body = {"model": "minilm", "training_file": changes.pop("file", None), "suffix": "intents"}
    body = {**body, **changes}
    if body["training_file"] is None:
        body["training_file"] = served.upload(role)
    with served.client(role) as client:
        return client.post(
            "/v1/fine_tuning/jobs", json={k: v for k, v in body.items() if v != "out"}
        )


def spec_of(served, job_id):
    with served.client("admin") as client:
        return client.get(f"/v1/updates/{job_id}").json()["spec"]


def chats(*messages):
    return "".join(json.dumps({"messages": one}) + "\n" for one in messages).encode()


def test_a_base_model_begins_a_lineage_with_the_default_preset(served):
    file_id = served.upload()
    job = create(served, file=file_id).json()

    assert spec_of(served, job["id"]) == {
        "lineage": "intents",
        "model": {"name": "minilm", "kind": "classifier"},
        "preset": "lora_replay_ewc",
        "training": {},
        "tasks": [{"name": "banking", "train": file_id}],
    }


def test_hyperparameters_seed_and_names_reach_the_spec(served):
    given = {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.5}
    metadata = {"lineage": "intents-b", "task": "cards", "preset": "ewc"}
    job = create(served, suffix="out", seed=3, hyperparameters=given, metadata=metadata).json()
    spec = spec_of(served, job["id"])

    assert spec["training"]["num_epochs"] == 2
    assert spec["training"]["batch_size"] == 8
    assert spec["training"]["seed"] == 3
    assert spec["training"]["learning_rate"] == pytest.approx(PRESET["learning_rate"] / 2)
    assert (spec["lineage"], spec["tasks"][0]["name"], spec["preset"]) == (
        "intents-b",
        "cards",
        "ewc",
    )
    assert (job["hyperparameters"], job["seed"], job["metadata"]) == (given, 3, metadata)


def test_a_multiplier_is_of_one_job_and_the_next_begins_from_the_lineages_own_rates(served):
    served.teach(training={"learning_rate": 4e-4, "head_learning_rate": 1e-2, "num_epochs": 2})
    for multiplier, rate, head in ((0.5, 2e-4, 5e-3), (0.25, 1e-4, 2.5e-3), ("auto", 4e-4, 1e-2)):
        given = {"learning_rate_multiplier": multiplier}
        job = create(served, model="intents", hyperparameters=given).json()
        training = spec_of(served, job["id"])["training"]
        assert training["learning_rate"] == pytest.approx(rate)
        assert training["head_learning_rate"] == pytest.approx(head)
        assert training["num_epochs"] == 2
        assert job["hyperparameters"]["learning_rate_multiplier"] == multiplier
        with served.client() as client:  # the last job that ran counts, or else the last
            assert client.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel").status_code == 200


@pytest.mark.parametrize("model", ["intents", "intents@1"])
def test_a_lineage_goes_on_as_it_was_taught_last(served, model):
    served.teach(training={"num_epochs": 7, "seed": 1})
    file_id = served.upload(name="travel.jsonl")
    job = create(served, model=model, suffix="out", file=file_id).json()

    assert spec_of(served, job["id"]) == {
        "lineage": "intents",
        "model": {"name": "minilm"},
        "methods": [{"type": "ewc"}],
        "training": {"num_epochs": 7, "seed": 1},
        "tasks": [{"name": "travel", "train": file_id}],
    }
    assert job["model"] == model


def test_only_the_champion_is_a_version_to_go_on_from(served):
    served.teach()
    assert create(served, model="intents@1", suffix="out").status_code == 200
    with served.client("admin") as client:
        (waiting,) = client.get("/v1/updates?status=queued").json()["data"]
        client.post(f"/v1/updates/{waiting['id']}/cancel")
    served.teach(number=2, decision="refused", joint=True)
    response = create(served, model="intents@2", suffix="out")

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "model"
    assert "its champion, intents@1" in error["message"]
    assert "promote version 2 first" in error["message"]


def test_a_request_sent_again_is_its_job_whatever_has_changed_since(served):
    body = {"model": "minilm", "suffix": "intents", "training_file": served.upload()}
    send = {"url": "/v1/fine_tuning/jobs", "json": body, "headers": {"Idempotency-Key": "once"}}
    with served.client() as client:
        first = client.post(**send).json()
        client.post(f"/v1/fine_tuning/jobs/{first['id']}/cancel")
        assert client.delete(f"/v1/files/{body['training_file']}").status_code == 200
        again = client.post(**send)

    assert (again.status_code, again.json()["id"]) == (200, first["id"])


def test_a_job_that_succeeded_names_its_version(served):
    job_id = served.teach()
    with served.client() as client:
        job = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()

    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", "intents@1")


def test_checking_data_is_called_validating_files(served):
    job_id = served.submit()
    served.tell(served.claim(), phase="checking_data")
    with served.client() as client:
        job = client.get(f"/v1/fine_tuning/jobs/{job_id}").json()

    assert (job["status"], job["phase"]) == ("validating_files", "checking_data")


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "nothing"}, 404, "model"),
        ({"model": "intents@1"}, 404, "model"),
        ({"model": "../../etc"}, 404, "model"),
        ({"model": "http://x/y"}, 404, "model"),
        ({"model": "/etc"}, 422, "model"),
        ({"suffix": "out"}, 400, "suffix"),
        ({"suffix": "a/b"}, 422, "suffix"),
        ({"suffix": "elsewhere"}, 422, "suffix"),
        ({"metadata": {"lineage": "a/b"}}, 422, "metadata.lineage"),
        ({"training_file": "file-" + "0" * 24}, 400, "training_file"),
        ({"training_file": "/etc/passwd"}, 400, "training_file"),
        ({"validation_file": "s3://bucket/x"}, 400, "validation_file"),
        ({"metadata": {"preset": "none"}}, 422, "metadata.preset"),
        ({"metadata": {"kind": "dreamer"}}, 422, "metadata.kind"),
        ({"metadata": {"task": "a/b"}}, 422, "metadata.task"),
        ({"metadata": {"ratchet.openai": "{}"}}, 400, "metadata"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, 400, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"learning_rate_multiplier": -1}}, 400, MULTIPLIER),
        ({"hyperparameters": {"learning_rate_multiplier": 5e-324}}, 422, MULTIPLIER),
        (supervised(learning_rate_multiplier=5e-324), 422, f"method.supervised.{MULTIPLIER}"),
        ({"method": {"type": "dpo"}}, 400, "method.type"),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {}}},
            },
            400,
            "hyperparameters",
        ),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, 400, "integrations"),
        ({"seed": -1}, 400, "seed"),
        ({"suffix": "x" * 65}, 400, "suffix"),
        ({"environment": {}}, 400, "environment"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused(served, changes, status, param):
    response = create(served, **changes)

    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param


def test_a_pointer_leads_into_the_request_and_not_into_the_spec_that_it_becomes(served):
    metadata = {"preset": "ewk", "task": "a/b"}
    response = create(served, suffix="a b", metadata=metadata)

    errors = {error["pointer"]: error["detail"] for error in response.json()["errors"]}
    assert errors.keys() >= {"#/suffix", "#/metadata/preset", "#/metadata/task"}
    assert not any(pointer.startswith("#/spec") for pointer in errors)
    assert errors["#/suffix"].startswith("suffix: a name is")


def test_a_problem_of_what_the_request_does_not_say_has_no_field(served):
    served.teach(training={"batch_size": 8, "max_length": 16})
    old = served.spec(training={"batch_size": 8, "max_length": 0})
    with served.db.writing() as tx:
        tx.change(update(jobs).values(spec=old))
    response = create(served, model="intents", hyperparameters={"n_epochs": 1})

    (error,) = response.json()["errors"]
    assert response.json()["error"]["param"] is None
    assert error["pointer"] == "#"
    assert error["detail"].startswith("training.max_length: ")


def test_a_multiplier_of_a_rate_that_is_found_is_refused_where_it_stands(served):
    served.teach(training={"learning_rate": "auto"})
    changes = supervised(learning_rate_multiplier=2)
    response = create(served, model="intents", **changes)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == f"method.supervised.{MULTIPLIER}"
    assert "Leave the multiplier out" in response.json()["detail"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n_epochs": 0}, "input should be 'auto' or greater than or equal to 1 (got 0)"),
        ({"batch_size": "many"}, "input should be 'auto' or a valid integer (got 'many')"),
        ({"learning_rate_multiplier": -1}, "input should be 'auto' or greater than 0 (got -1)"),
    ],
)
def test_all_that_a_hyperparameter_may_be_is_told(served, given, expected):
    response = create(served, hyperparameters=given)

    (error,) = response.json()["errors"]
    (name,) = given
    assert error["detail"] == f"hyperparameters.{name}: {expected}"


def test_a_checkpoint_carries_what_was_measured(served):
    job_id = served.submit()
    metrics = {"validation_own": 0.75, "validation_all": None}
    learned = NewEvent("learned", type="checkpoint", data={"step_number": 9, "metrics": metrics})
    bare = NewEvent("learned", type="checkpoint", data={"step_number": 18})
    served.tell(served.claim(), learned, bare)
    with served.client() as client:
        found = client.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints").json()["data"]

    assert [one["metrics"] for one in found] == [
        {"step": 18, "full_valid_mean_token_accuracy": None},
        {"step": 9, "full_valid_mean_token_accuracy": 0.75},
    ]


def test_a_lineage_that_the_key_does_not_see_is_no_model(served):
    served.teach()
    with served.client("stranger") as client:
        response = client.post(
            "/v1/fine_tuning/jobs",
            json={"model": "intents", "training_file": served.upload("stranger")},
        )

    assert (response.status_code, response.json()["error"]["param"]) == (404, "model")


def test_chats_are_read_by_their_last_messages(served):
    content = chats(
        [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "greeting"},
            {"role": "user", "content": [{"type": "text", "text": " my card "}]},
            {"role": "assistant", "content": "card"},
        ]
    )
    file_id = served.upload(name="a.jsonl", content=content)
    first, again = (create(served, file=file_id).json() for _ in range(2))
    read = spec_of(served, first["id"])["tasks"][0]["train"]
    blobs = [path.read_bytes() for path in served.settings.home.glob("files/??/*")]
    with served.client() as client:
        hidden = client.get(f"/v1/files/{read}")
        listed = client.get("/v1/files").json()["data"]

    assert first["id"] == again["id"]
    assert sorted(blobs) == sorted([content, b'{"text": "my card", "label": "card"}\n'])
    assert hidden.status_code == 404
    assert [file["id"] for file in listed] == [file_id]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}],
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": " "}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": None}, {"role": "assistant", "content": "b"}],
        "text",
        [["user", "a"]],
    ],
)
def test_a_chat_that_holds_no_text_and_label_is_told_by_its_line(served, messages):
    good = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    file_id = served.upload(name="a.jsonl", content=chats(good, messages))
    response = create(served, file=file_id)

    assert (response.status_code, response.json()["error"]["param"]) == (400, "training_file")
    assert "line 2" in response.json()["detail"]


def test_rows_that_are_no_chats_are_read_as_they_are(served):
    file_id = served.upload(content=ROWS)
    job = create(served, file=file_id).json()

    assert spec_of(served, job["id"])["tasks"][0]["train"] == file_id

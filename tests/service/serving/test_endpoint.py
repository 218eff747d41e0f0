"""Covers, beside `endpoint`: `classification`, `replica`."""

import asyncio
import json

import httpx
import pytest
import torch

from ratchet.pipelines.answering.answer import answer
from ratchet.service.errors import OverloadedError
from ratchet.service.schemas.classify import (
    MAX_BODY_BYTES,
    MAX_CHARACTERS,
    MAX_TEXTS,
    ClassifyResponse,
)
from ratchet.service.serving.endpoint import create_endpoint
from ratchet.service.serving.replica import Replica
from tests.tiny import TASKS, texts_of

FOREIGN = "quark " * 20


class InProcess:
    """The replica without Serve: every text is a batch of its own."""

    def __init__(self, replica):
        self.replica = replica

    async def classify(self, request):
        async def ask(query):
            return answer([query])[0]

        response = await self.replica.classify(request, ask)
        return response.model_dump_json().encode()

    async def models(self):
        return self.replica.models()

    async def health(self):
        return self.replica.health()


@pytest.fixture(scope="module")
def replica(lineages):
    replica = Replica(lineages, ["columns", "growing"], torch.device("cpu"))
    yield replica
    replica.close()


@pytest.fixture(scope="module")
def lone(lineages):
    replica = Replica(lineages, ["columns"], torch.device("cpu"))
    yield replica
    replica.close()


def ask(backend, method, path, **options):
    async def request():
        transport = httpx.ASGITransport(create_endpoint(backend), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **options)

    return asyncio.run(request())


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_one_text_is_answered_in_vllms_shape_with_a_route(lone, path):
    body = {"model": "kitchen", "input": texts_of("recipe", 1)[0]}
    got = ask(InProcess(lone), "POST", path, json=body)
    assert got.status_code == 200
    content = got.json()
    assert ClassifyResponse.model_validate(content)
    assert (content["object"], content["model"]) == ("list", "kitchen")
    [row] = content["data"]
    assert row["label"] in TASKS["kitchen"]
    assert sum(row["probs"]) == pytest.approx(1)
    assert (row["index"], row["num_classes"]) == (0, 2)
    assert row["route"] == {
        "task": "kitchen",
        "version": 2,
        "score": 1.0,
        "margin": 1.0,
        "abstained": False,
    }
    assert content["usage"]["total_tokens"] == content["usage"]["prompt_tokens"] > 0


def test_probs_stand_in_the_order_of_the_models_labels(lone):
    models = {card["id"]: card for card in ask(InProcess(lone), "GET", "/v1/models").json()["data"]}
    assert list(models) == ["auto", "columns", "banking", "home", "kitchen"]
    assert models["home"]["root"] == "columns@2"
    for task in ("banking", "home", "kitchen"):
        body = {"model": task, "input": texts_of(TASKS[task][1], 3)}
        for row in ask(InProcess(lone), "POST", "/v1/classify", json=body).json()["data"]:
            best = max(range(2), key=row["probs"].__getitem__)
            assert models[task]["labels"][best] == row["label"]


def test_out_of_scope_text_has_no_label_or_fails_a_strict_request(lone):
    inside = [text for label in TASKS["home"] for text in texts_of(label, 10)]
    body = {"model": "auto", "input": [*inside, FOREIGN]}
    rows = ask(InProcess(lone), "POST", "/v1/classify", json=body).json()["data"]
    assert rows[-1]["route"]["abstained"]
    assert (rows[-1]["label"], rows[-1]["probs"], rows[-1]["route"]["task"]) == (None, [], None)
    assert sum(row["route"]["abstained"] for row in rows[:-1]) < len(inside) / 2
    got = ask(InProcess(lone), "POST", "/v1/classify", json=body | {"strict": True})
    assert got.status_code == 422
    assert got.json()["error"]["param"] == "input"
    assert str(len(inside)) in got.json()["detail"]


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[]", None, "must be an object"),
        (b'"text"', None, "must be an object"),
        (b"{}", "input", "required"),
        (b'{"input": []}', "input", "at least one text"),
        (b'{"input": 5}', "input", "a text or a list"),
        (b'{"input": null}', "input", "a text or a list"),
        (b'{"input": [1]}', "input", "input.0"),
        (b'{"input": ["fine", "  "]}', "input", "input.1: a text needs"),
        (b'{"input": ""}', "input", "at least 1 character"),
        (b'{"input": "x", "inputs": "y"}', "inputs", "unknown field"),
        (b'{"input": "x", "model": 3}', "model", "string"),
        (b'{"input": "x", "model": ""}', "model", "at least 1 character"),
        (b'{"input": "x", "strict": "yes"}', "strict", "boolean"),
        (json.dumps({"input": "x" * (MAX_CHARACTERS + 1)}).encode(), "input", "at most 20000"),
        (json.dumps({"input": ["x"] * (MAX_TEXTS + 1)}).encode(), "input", "at most 256"),
    ],
)
def test_bad_bodies_are_the_clients_error(lone, body, param, said):
    got = ask(InProcess(lone), "POST", "/v1/classify", content=body)
    assert got.status_code == 400
    assert got.headers["content-type"] == "application/problem+json"
    content = got.json()
    assert said in content["detail"]
    assert content["error"]["param"] == param
    assert content["error"]["message"] == content["detail"]
    assert (content["status"], content["instance"]) == (400, "/v1/classify")


def test_every_problem_of_a_body_is_reported_with_its_place(lone):
    got = ask(InProcess(lone), "POST", "/v1/classify", json={"inputs": "x", "input": ["", 3]})
    pointers = [problem["pointer"] for problem in got.json()["errors"]]
    assert pointers == ["#/input/0", "#/input/1", "#/inputs"]


def test_a_body_beyond_the_limit_is_not_read_to_its_end(lone):
    got = ask(InProcess(lone), "POST", "/v1/classify", content=b" " * (MAX_BODY_BYTES + 1))
    assert (got.status_code, got.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("kitchn", 404, "model_not_found"),
        ("banking@9", 404, "model_not_found"),
        ("kitchen@1", 404, "model_not_found"),
    ],
)
def test_unknown_models_blame_the_field_model(lone, model, status, code):
    got = ask(InProcess(lone), "POST", "/v1/classify", json={"model": model, "input": "x"})
    assert got.status_code == status
    error = got.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (
        "model",
        code,
        "invalid_request_error",
    )


def test_with_two_lineages_a_shared_task_needs_its_lineage(replica):
    got = ask(InProcess(replica), "POST", "/classify", json={"model": "banking", "input": "money"})
    assert (got.status_code, got.json()["error"]["param"]) == (400, "model")
    for lineage, number in (("columns", 2), ("growing", 2)):
        body = {"model": f"{lineage}/banking", "input": "money"}
        got = ask(InProcess(replica), "POST", "/classify", json=body)
        assert got.json()["data"][0]["route"]["version"] == number


def test_an_older_version_answers_when_it_is_named(lone):
    body = {"model": "banking@1", "input": "send money"}
    got = ask(InProcess(lone), "POST", "/classify", json=body)
    assert got.json()["data"][0]["route"]["version"] == 1
    health = ask(InProcess(lone), "GET", "/healthz").json()
    assert health["lineages"][0]["resident"] == {"1": 0, "2": 0}
    assert (health["status"], health["lineages"][0]["serving"]) == ("ok", 2)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/classify", 405), ("GET", "/v1/nothing", 404), ("POST", "/healthz", 405)],
)
def test_wrong_paths_and_methods_get_json_too(lone, method, path, status):
    got = ask(InProcess(lone), method, path)
    assert (got.status_code, got.json()["status"]) == (status, status)
    assert got.json()["error"]["type"] == "invalid_request_error"


def test_a_full_queue_says_when_to_come_back():
    class Full:
        async def models(self):
            raise OverloadedError("too many requests wait")

    got = ask(Full(), "GET", "/v1/models")
    assert (got.status_code, got.headers["retry-after"]) == (429, "1")
    assert got.json()["error"]["type"] == "rate_limit_error"


def test_an_error_of_ours_shows_nothing_of_the_inside():
    class Broken:
        async def models(self):
            raise ZeroDivisionError("secret")

    got = ask(Broken(), "GET", "/v1/models")
    assert (got.status_code, got.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in got.text


def test_a_process_that_lives_says_so(lone):
    assert ask(InProcess(lone), "GET", "/livez").json() == {"status": "ok"}


def test_a_request_that_goes_away_while_its_version_loads_leaves_no_lease(lineages):
    replica = Replica(lineages, ["columns"], torch.device("cpu"))
    lineage = replica.lineages["columns"]

    async def abandon():
        from ratchet.service.serving.replica import _leased

        waiting = asyncio.ensure_future(_leased(lineage, 1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while 1 not in lineage.resident():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    asyncio.run(abandon())
    assert lineage.resident()[1] == 0
    replica.close()

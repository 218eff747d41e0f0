import asyncio
import json
import shutil
import threading
import time

import httpx
import pytest
import torch

from ratchet.pipelines.registry.registry import Registry
from ratchet.service.serving.endpoint import create_endpoint
from ratchet.service.serving.replica import Replica
from tests.service.serving.test_endpoint import FOREIGN, InProcess, ask
from tests.waiting import wait_for


def bring(lineages, home, name, champion=None):
    """Copy a lineage's versions into a home, in one step for who looks, and promote one of them."""
    draft, folder = home / "draft", home / "versions" / name
    shutil.copytree(lineages / "versions" / name, draft)
    (draft / "aliases.json").unlink()
    folder.parent.mkdir(exist_ok=True)
    draft.rename(folder)
    if champion is not None:
        Registry(home).promote(name, champion)


@pytest.fixture
def everything(tmp_path):
    replica = Replica(tmp_path, None, torch.device("cpu"), poll_seconds=0.02)
    yield replica
    replica.close()


def test_an_empty_home_lists_nothing_and_asks_to_come_back(everything):
    assert ask(InProcess(everything), "GET", "/v1/models").json() == {"object": "list", "data": []}
    got = ask(InProcess(everything), "POST", "/v1/classify", json={"input": "send money"})
    assert (got.status_code, got.headers["retry-after"]) == (503, "5")
    assert "no lineage has a champion yet" in got.json()["detail"]
    assert ask(InProcess(everything), "GET", "/healthz").json() == {
        "status": "ok",
        "watching": True,
        "lineages": [],
    }


def test_lineages_are_taken_up_with_their_first_champion(lineages, everything, tmp_path):
    bring(lineages, tmp_path, "columns")
    time.sleep(0.2)
    assert not everything.lineages
    Registry(tmp_path).promote("columns", 1)
    wait_for(lambda: "columns" in everything.lineages)
    body = {"model": "auto", "input": "send money"}
    got = ask(InProcess(everything), "POST", "/v1/classify", json=body)
    assert got.json()["data"][0]["route"]["version"] == 1
    bring(lineages, tmp_path, "growing", champion=2)
    wait_for(lambda: len(everything.lineages) == 2)
    ambiguous = ask(InProcess(everything), "POST", "/v1/classify", json=body)
    assert ambiguous.status_code == 400
    assert "columns/auto, growing/auto" in ambiguous.json()["detail"]
    named = body | {"model": "growing/auto"}
    assert ask(InProcess(everything), "POST", "/v1/classify", json=named).status_code == 200


def test_a_lineage_that_cannot_be_loaded_is_said_and_harms_no_other(lineages, tmp_path):
    bring(lineages, tmp_path, "columns", champion=1)
    bring(lineages, tmp_path, "growing", champion=1)
    (tmp_path / "versions" / "growing" / "1" / "weights.safetensors").write_bytes(b"")
    replica = Replica(tmp_path, None, torch.device("cpu"))
    health = ask(InProcess(replica), "GET", "/healthz").json()
    assert health["status"] == "degraded"
    [sound, broken] = health["lineages"]
    assert (sound["lineage"], sound["serving"]) == ("columns", 1)
    assert (broken["lineage"], broken["serving"]) == ("growing", None)
    assert "weights.safetensors" in broken["refused"][""]
    body = {"model": "auto", "input": "send money"}
    assert ask(InProcess(replica), "POST", "/v1/classify", json=body).status_code == 200
    replica.close()


def test_language_models_are_passed_over(lineages, tmp_path):
    bring(lineages, tmp_path, "columns", champion=1)
    path = tmp_path / "versions" / "columns" / "1" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["base_model"]["kind"] = "causal_lm"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    replica = Replica(tmp_path, None, torch.device("cpu"))
    assert not replica.lineages
    assert replica.health().status == "ok"
    replica.close()


def test_no_request_fails_while_lineages_come(lineages, everything, tmp_path):
    bring(lineages, tmp_path, "columns", champion=1)
    wait_for(lambda: everything.lineages)
    stop, statuses = threading.Event(), []

    async def asking():
        transport = httpx.ASGITransport(create_endpoint(InProcess(everything)))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            while not stop.is_set():
                body = {"model": "columns/banking", "input": ["send money", FOREIGN]}
                got = await client.post("/v1/classify", json=body)
                statuses.append(got.status_code)

    thread = threading.Thread(target=lambda: asyncio.run(asking()))
    thread.start()
    for name in ("growing", "cosine", "domains"):
        bring(lineages, tmp_path, name, champion=1)
    wait_for(lambda: len(everything.lineages) == 4 and len(statuses) > 5)
    stop.set()
    thread.join()
    assert set(statuses) == {200}

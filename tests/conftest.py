import os
import uuid

import pytest
from hypothesis import settings

pytest_plugins = ("tests.postgres",)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says nothing on a machine that does other things, too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a two-layer encoder that knows a few dozen words."""
    from tests.tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory):
    """The folder of a two-layer decoder with a tokenizer trained on a few dozen words."""
    from tests.tiny_lm import save_tiny_decoder

    return save_tiny_decoder(tmp_path_factory.mktemp("tiny_lm") / "decoder")


@pytest.fixture(scope="session")
def tied_decoder(tmp_path_factory):
    """The same with one tensor for the embedding and the output layer."""
    from tests.tiny_lm import save_tiny_decoder

    return save_tiny_decoder(tmp_path_factory.mktemp("tied_lm") / "decoder", tied=True)


@pytest.fixture(scope="session")
def still_model(tiny_model, tmp_path_factory):
    """The tiny encoder without dropout, which every worker would draw anew."""
    from tests.tiny import without_dropout

    return without_dropout(tiny_model, tmp_path_factory.mktemp("still") / "encoder")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """The address of an S3 server that runs as long as the tests."""
    from tests.s3_server import s3_server

    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint, monkeypatch):
    """The usual variables, set for that server; gives a client of it."""
    import boto3

    from tests.s3_server import CREDENTIALS

    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(s3):
    """The name of a new bucket."""
    name = f"ratchet-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def lineages(tiny_model, tmp_path_factory):
    """A home with small lineages, each of one or two versions; read only."""
    import torch

    from tests.tiny import teach, tiny_spec

    torch.set_num_threads(1)
    lora = [{"type": "lora", "rank": 4, "per_task": True}]
    home, data = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data")

    def update(lineage, tasks, methods, scenario="class_incremental", **sections):
        spec = tiny_spec(tiny_model, data, lineage, tasks, methods, scenario, **sections)
        return teach(home, spec)["version"]

    update("columns", ["banking", "home"], lora)
    update("columns", ["kitchen"], lora)
    update("shared_adapter", ["banking", "home"], [{"type": "lora", "rank": 2}])
    update("growing", ["banking", "home"], [])
    update("growing", ["kitchen"], [])
    update("cosine", ["banking", "home"], [{"type": "heads", "cosine": True}])
    update("named", ["banking", "home"], [], "task_incremental")
    update("analytic", ["banking", "home"], [{"type": "analytic", "width": 64}])
    update("bottlenecks", ["banking", "home"], [{"type": "adapter", "per_task": True}])
    update("bottlenecks", ["kitchen"], [{"type": "adapter", "per_task": True}])
    update("mixed", ["banking", "home"], [{"type": "mam", "length": 3, "per_task": True}])
    update("prompted", ["banking", "home"], [{"type": "prompt", "length": 3, "per_task": True}])
    update("summed", ["banking", "home"], [{"type": "o_lora", "rank": 2}])
    update("complement", ["banking", "home"], [{"type": "osf"}])
    domains = {"films": ["positive", "negative"], "books": ["positive", "negative"]}
    update("domains", domains, [], "domain_incremental")
    update("adapted_domains", domains, lora, "domain_incremental")
    return home


@pytest.fixture(scope="session")
def registry(lineages):
    """The versions of those lineages."""
    from ratchet.pipelines.registry.registry import Registry

    return Registry(lineages)

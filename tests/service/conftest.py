import pytest
import torch

from pipelines.registry import Registry
from tests.tiny import teach, tiny_spec

LORA = [{"type": "lora", "rank": 4, "per_task": True}]


@pytest.fixture(scope="session")
def lineages(tiny_model, tmp_path_factory):
    """A home with small lineages, each of one or two versions; read only."""
    torch.set_num_threads(1)
    home, data = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data")

    def update(lineage, tasks, methods, scenario="class_incremental", **sections):
        spec = tiny_spec(tiny_model, data, lineage, tasks, methods, scenario, **sections)
        return teach(home, spec)["version"]

    update("columns", ["banking", "home"], LORA)
    update("columns", ["kitchen"], LORA)
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
    update("adapted_domains", domains, LORA, "domain_incremental")
    return home


@pytest.fixture(scope="session")
def registry(lineages):
    return Registry(lineages)

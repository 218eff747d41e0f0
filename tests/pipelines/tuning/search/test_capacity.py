"""How many trials fit, and what each is given, by what a Ray says that it has."""

import pytest
import ray

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.models.precision import own_cpus
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.spec.update_spec import ScalingSpec
from ratchet.pipelines.tuning.search import capacity as capacity
from ratchet.pipelines.tuning.search.capacity import (
    DRIVER_CPUS,
    Capacity,
    Places,
    capacity_of_ray,
    given_device,
    num_own_workers,
)

MACHINE = Capacity(({"CPU": 16.0, "GPU": 1.0},))
PLAIN = Capacity(({"CPU": 16.0, "GPU": 0.0},))
CLUSTER = Capacity(({"CPU": 0.0}, {"CPU": 3.0}, {"CPU": 8.0, "GPU": 2.0}), can_grow=True)


def tune(num_parallel=None):
    parameters = {"training.learning_rate": {"log": [1e-5, 1e-1]}}
    return TuneSpec.model_validate({"parameters": parameters, "num_parallel": num_parallel})


def places(own, num_left=100, num_parallel=None, **scaling):
    return own.places(tune(num_parallel), ScalingSpec(**scaling), num_left)


@pytest.mark.parametrize(
    ("own", "scaling", "num_parallel", "resources"),
    [
        (PLAIN, {}, 16, {"CPU": 1}),
        (PLAIN, {"cpus_per_worker": 5}, 3, {"CPU": 5}),
        # An update without workers takes the GPU of its machine: so does a trial, all of it.
        (MACHINE, {}, 1, {"CPU": 1, "GPU": 1}),
        (MACHINE, {"gpus_per_worker": 0.25}, 4, {"CPU": 1, "GPU": 0.25}),
        (PLAIN, {"gpus_per_worker": 1}, 16, {"CPU": 1}),
        (Capacity(PLAIN.nodes, can_grow=True), {"gpus_per_worker": 1}, 16, {"CPU": 1}),
        # A worker has the GPUs that were asked for.
        (MACHINE, {"num_workers": 1}, 16, {"CPU": 1}),
        (MACHINE, {"num_workers": 1, "gpus_per_worker": 0.1}, 10, {"CPU": 1, "GPU": 0.1}),
        (MACHINE, {"num_workers": 4}, 4, {"CPU": DRIVER_CPUS}),
        (CLUSTER, {"num_workers": 2, "gpus_per_worker": 1}, 1, {"CPU": DRIVER_CPUS}),
        # A worker lies on one machine: two CPUs fit once into 3, and four times into 8.
        (CLUSTER, {"num_workers": 1, "cpus_per_worker": 2}, 5, {"CPU": 2}),
        (CLUSTER, {}, 2, {"CPU": 1, "GPU": 1}),
        (Capacity(({"CPU": 0.0},), can_grow=True), {}, 1, {"CPU": 1}),
    ],
)
def test_as_many_trials_as_fit_each_with_what_an_update_would_take(
    own, scaling, num_parallel, resources
):
    assert places(own, **scaling) == Places(num_parallel, resources)


def test_a_given_number_is_kept_to_where_the_machine_has_gpus_for_it_or_others_may_join():
    assert places(MACHINE, num_parallel=4).num_parallel == 1
    assert places(MACHINE, num_parallel=4, num_workers=1).num_parallel == 4
    assert places(CLUSTER, num_parallel=9).num_parallel == 9
    assert places(PLAIN, num_parallel=9, num_left=3).num_parallel == 3


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_gpu_that_will_never_come_is_not_waited_for(num_workers):
    with pytest.raises(RatchetError, match=r"gpus_per_worker is 1 .* has 0 GPUs .* set .* to 0"):
        places(PLAIN, num_workers=num_workers, gpus_per_worker=1)
    # A cluster may start a machine that has one.
    found = places(Capacity(PLAIN.nodes, can_grow=True), num_workers=1, gpus_per_worker=1)
    assert found == Places(1, {"CPU": 1, "GPU": 1})


def test_the_own_ray_gets_cpus_for_all_workers_that_are_to_run():
    assert num_own_workers(tune(), ScalingSpec(), 1000) == own_cpus()
    assert num_own_workers(tune(5), ScalingSpec(num_workers=2, gpus_per_worker=1), 1000) == 10
    assert num_own_workers(tune(5), ScalingSpec(), 3) == 3


class FakeContext:
    def get_node_id(self):
        return "here"


def test_a_cluster_is_counted_as_it_is_and_the_own_machine_with_no_cpu_too_many(monkeypatch):
    nodes = [
        {"NodeID": "here", "Alive": True, "Resources": {"CPU": 100.0, "memory": 1e9}},
        {"NodeID": "there", "Alive": True, "Resources": {"CPU": 64.0, "GPU": 8.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 32.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "get_runtime_context", FakeContext)
    monkeypatch.setattr(capacity.torch.backends.cuda, "is_built", lambda: True)
    found = capacity_of_ray(None)
    assert [node["CPU"] for node in found.nodes] == [own_cpus(), 64.0]
    assert found.can_grow
    assert capacity_of_ray(4.0) == Capacity(({"CPU": 4.0, "GPU": 8.0},))
    monkeypatch.setattr(capacity.torch.backends.cuda, "is_built", lambda: False)
    assert capacity_of_ray(4.0) == Capacity(({"CPU": 4.0, "GPU": 0.0},))


@pytest.mark.parametrize(("given", "device"), [([], "cpu"), ([0], "cuda")])
def test_a_trial_computes_on_a_gpu_only_where_ray_gave_it_one(monkeypatch, given, device):
    monkeypatch.setattr(
        capacity.torch.cuda, "is_available", lambda: True
    )  # as a GPU nearby is seen
    assert given_device().type == "cpu"  # nobody has given anything
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: given)
    assert given_device().type == device

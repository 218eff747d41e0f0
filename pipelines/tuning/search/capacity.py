"""How many trials a Ray has room for at a time, and what it sets aside for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.models.precision import own_cpus
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.spec.update_spec import ScalingSpec

DRIVER_CPUS = 0.01
"""What a trial needs for itself when it only waits for a worker group of its own."""


@dataclass(frozen=True)
class Places:
    """Where trials run.

    Attributes:
        num_parallel: Trials at a time.
        resources: What Ray sets aside for each, by its name: `CPU`, and `GPU` where it has one.
    """

    num_parallel: int
    resources: Mapping[str, float]


@dataclass(frozen=True)
class Capacity:
    """What a Ray can give away.

    Attributes:
        nodes: Resources by name, of each machine.
        can_grow: Whether machines may join later, as an autoscaler adds them.
    """

    nodes: tuple[Mapping[str, float], ...]
    can_grow: bool = False

    def share(self, scaling: ScalingSpec) -> dict[str, float]:
        """What one worker of a trial is given: what one of an update of the same spec computes on.

        With no workers an update takes a whole GPU where there is one; a worker has the GPUs that
        the spec asks for and no other.
        """
        gpus = scaling.gpus_per_worker
        if scaling.num_workers == 0:
            has_one = any(node.get("GPU", 0.0) >= 1 for node in self.nodes)
            gpus = (gpus or 1.0) if has_one else 0.0
        return {"CPU": scaling.cpus_per_worker} | ({"GPU": gpus} if gpus else {})

    def num_fitting(self, scaling: ScalingSpec) -> int:
        """Trials that fit at a time. A worker lies on one machine, a worker group on several."""
        share = self.share(scaling)
        workers = sum(
            min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in share.items())
            for node in self.nodes
        )
        return workers // max(1, scaling.num_workers)

    def places(self, tune: TuneSpec, scaling: ScalingSpec, num_left: int) -> Places:
        """Trials at a time: as many as fit, or `num_parallel` where the room allows or may grow.

        Raises:
            RatchetError: Trials would wait for ever for a GPU that is not there.
        """
        share, fitting = self.share(scaling), self.num_fitting(scaling)
        if fitting == 0 and "GPU" in share and not self.can_grow:
            here = sum(node.get("GPU", 0.0) for node in self.nodes)
            raise RatchetError(
                f"scaling.gpus_per_worker is {scaling.gpus_per_worker:g} and num_workers "
                f"{scaling.num_workers}, but this machine has {here:g} GPUs that PyTorch can use: "
                "set gpus_per_worker to 0, or give the --address of a cluster that has them"
            )
        wanted = tune.num_parallel or fitting
        allowed = wanted if self.can_grow else min(wanted, fitting)
        resources = {"CPU": DRIVER_CPUS} if scaling.num_workers > 1 else share
        return Places(max(1, min(allowed, num_left)), resources)


def num_own_workers(tune: TuneSpec, scaling: ScalingSpec, num_left: int) -> int:
    """Workers that the Ray of this process is to have CPUs for, before it is started."""
    cpus = Capacity(({"CPU": float(own_cpus())},), can_grow=True)
    without_gpus = scaling.model_copy(update={"gpus_per_worker": 0.0})
    num_parallel = cpus.places(tune, without_gpus, num_left).num_parallel
    return num_parallel * max(1, scaling.num_workers)


def capacity_of_ray(own_cpus_told: float | None) -> Capacity:
    """What the Ray that this process is attached to has now.

    On the machine of this process no more CPUs are counted than it has: the Ray of `ratchet up` is
    told of one more.

    Args:
        own_cpus_told: The CPUs for trials in the Ray that this process started, which are all of
            them but the one that Ray itself is left; None for a cluster.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    usable = [_usable(node["Resources"]) for node in alive]
    if own_cpus_told is not None:
        gpus = sum(node.get("GPU", 0.0) for node in usable)
        return Capacity(({"CPU": own_cpus_told, "GPU": gpus},))
    here = ray.get_runtime_context().get_node_id()
    nodes = [
        _capped(own, own_cpus()) if node["NodeID"] == here else own
        for node, own in zip(alive, usable, strict=True)
    ]
    return Capacity(tuple(nodes), can_grow=True)


def _capped(resources: Mapping[str, float], cpus: float) -> dict[str, float]:
    return {**resources, "CPU": min(resources.get("CPU", 0.0), cpus)}


def _usable(resources: Mapping[str, float]) -> dict[str, float]:
    """CPUs and GPUs; none of the latter where PyTorch was built without them."""
    names = ("CPU", "GPU") if torch.backends.cuda.is_built() else ("CPU",)
    return {name: resources.get(name, 0.0) for name in names}


def given_device() -> torch.device:
    """Where a trial computes: on the GPU that Ray gave its worker, on the CPU where it gave none.

    Ray leaves the GPUs of a machine visible to workers that were given none.
    """
    import ray

    given = ray.get_gpu_ids() if ray.is_initialized() else []
    return torch.device("cuda" if given and torch.cuda.is_available() else "cpu")

"""How much memory and storage a model and its methods take."""

from __future__ import annotations

import resource

import torch

from pipelines.methods.base import MethodStack
from pipelines.models.router_statistics import RouterStatistics
from pipelines.models.shards import sharded_parameters
from pipelines.models.taught_model import TaughtModel


def held_sizes(
    model: TaughtModel, stack: MethodStack, router: RouterStatistics
) -> dict[str, float]:
    """Size of the model, and of what a version of it would keep."""
    tensors = [*model.learned_state().values(), *router.tensors()]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return {
        "total_parameters": float(sum(p.numel() for p in model.parameters())),
        "stored_bytes": float(stored + _state_bytes(model, stack)),
    }


def sizes_of(model: TaughtModel, stack: MethodStack, router: RouterStatistics) -> dict[str, float]:
    """As `held_sizes`, with what trains, the methods' state and this worker's peak so far."""
    return {
        "peak_memory_bytes": float(_peak_memory(model.device)),
        "state_bytes": float(_state_bytes(model, stack)),
        "trainable_parameters": float(
            sum(p.numel() for p in model.parameters() if p.requires_grad)
        ),
        **held_sizes(model, stack, router),
    }


def _peak_memory(device: torch.device) -> int:
    """Peak bytes so far: of the device where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _state_bytes(model: TaughtModel, stack: MethodStack) -> int:
    """Bytes of the methods' state; of what is sharded, those of all workers."""
    parameters = dict(sharded_parameters(model))
    total = 0
    for kind, state in stack.state_dicts().items():
        total += state.num_bytes
        for name, tensor in state.tensors.items():
            parameter = parameters.get(stack.methods[kind].parameter_of(name) or "")
            if parameter is not None:
                total += (parameter.numel() - tensor.numel()) * tensor.element_size()
    return total

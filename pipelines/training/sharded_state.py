"""What each worker holds only its part of: into a checkpoint, out of it, and whole for a version.

Parts go through torch's distributed checkpointing into safetensors, each worker's into a file of
its own, so that nothing is gathered and nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)

from ratchet.pipelines.methods.base import MethodStack, MethodState
from ratchet.pipelines.models.shards import (
    as_sharded,
    is_sharded,
    own_part,
    part_like,
    sharded_parameters,
    whole,
)
from ratchet.pipelines.models.taught_model import TaughtModel

SHARDS_FOLDER = "shards"


def take_sharded(
    model: TaughtModel,
    stack: MethodStack,
    shared: dict[str, Tensor],
    states: Mapping[str, MethodState],
) -> dict[str, Tensor]:
    """Take out of a checkpoint what this worker holds only its part of.

    Args:
        model: The model.
        stack: Its methods.
        shared: Tensors under `model/NAME` and `optimizer/KIND/NAME`; the sharded ones are removed.
        states: The methods' states; sharded tensors are removed.

    Returns:
        The sharded tensors, those of methods under `methods/TYPE/NAME`, in the form that knows
        their place in the whole.
    """
    parameters = dict(sharded_parameters(model))
    taken = {}
    for key in list(shared):
        section, _, rest = key.partition("/")
        kind, _, name = rest.partition("/")
        if section == "model" and is_sharded(shared[key]):
            taken[key] = shared.pop(key)
        elif section == "optimizer" and name in parameters and kind != "step":
            taken[key] = as_sharded(parameters[name], shared.pop(key))
    for kind, state in states.items():
        for name, parameter in _of_parameters(stack, kind, state, parameters).items():
            taken[f"methods/{kind}/{name}"] = as_sharded(parameter, state.tensors.pop(name))
    return taken


def _of_parameters(
    stack: MethodStack, kind: str, state: MethodState, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Of a state's tensors those that are laid out as a sharded parameter, with the parameter."""
    method = stack.methods[kind]
    # Sorted, because all workers gather them together and a set's order is each process's own.
    found = {name: method.parameter_of(name) or "" for name in sorted(state.tensors)}
    return {name: parameters[own] for name, own in found.items() if own in parameters}


def describe_shards(stack: MethodStack, shards: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """What `read_shards` must know of each: the parameter that it is laid out as, and its type."""
    return {
        key: (_parameter_name(stack, key), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in shards.items()
    }


def _parameter_name(stack: MethodStack, key: str) -> str:
    section, _, rest = key.partition("/")
    if section == "model":
        return rest
    kind, _, name = rest.partition("/")
    if section == "optimizer":
        return name
    owner = stack.methods[kind].parameter_of(name)
    assert owner is not None, "take_sharded() took it"
    return owner


def write_shards(folder: Path, shards: Mapping[str, Tensor]) -> None:
    """Write this worker's parts; every worker must call it."""
    path = folder / SHARDS_FOLDER
    path.mkdir(parents=True, exist_ok=True)
    writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
    dcp.save(_apart(shards), storage_writer=writer)


def _apart(shards: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, tied ones copied: safetensors refuses aliases."""
    found: dict[str, Tensor] = {}
    places = set()
    for key, tensor in shards.items():
        part = own_part(tensor)
        is_alias = part.numel() > 0 and part.data_ptr() in places
        places.add(part.data_ptr())
        found[key] = as_sharded(tensor, part.clone()) if is_alias else tensor
    return found


def read_shards(
    folder: Path, described: Mapping[str, tuple[str, str]], model: TaughtModel
) -> dict[str, Tensor]:
    """This worker's parts of what `write_shards` wrote; every worker must call it.

    Args:
        folder: The checkpoint.
        described: What `describe_shards` said of them.
        model: A model with the structure that they belong to.
    """
    parameters = dict(sharded_parameters(model))
    shards = {}
    for key, (name, dtype) in described.items():
        part = torch.empty_like(own_part(parameters[name]), dtype=getattr(torch, dtype))
        shards[key] = as_sharded(parameters[name], part)
    dcp.load(shards, storage_reader=HuggingFaceStorageReader(str(folder / SHARDS_FOLDER)))
    return shards


def whole_states(
    model: TaughtModel, stack: MethodStack, states: Mapping[str, MethodState], keep: bool
) -> dict[str, dict[str, Tensor]]:
    """The sharded tensors of the methods' states, whole where `keep`, and taken out of the states.

    Every worker must call it. One tensor at a time is gathered.
    """
    parameters = dict(sharded_parameters(model))
    found: dict[str, dict[str, Tensor]] = {}
    for kind, state in states.items():
        for name, parameter in _of_parameters(stack, kind, state, parameters).items():
            full = whole(as_sharded(parameter, state.tensors.pop(name)))
            if keep:
                found.setdefault(kind, {})[name] = full.cpu()
    return found


def own_parts(
    model: TaughtModel, stack: MethodStack, states: Mapping[str, MethodState]
) -> dict[str, MethodState]:
    """The methods' whole states with this worker's part of what is sharded."""
    parameters = dict(sharded_parameters(model))
    parts = {}
    for kind, state in states.items():
        tensors = dict(state.tensors)
        for name, parameter in _of_parameters(stack, kind, state, parameters).items():
            tensors[name] = part_like(parameter, tensors[name]).clone()
        parts[kind] = MethodState(tensors, state.values, state.rows)
    return parts

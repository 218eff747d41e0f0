"""Parameters of which each worker holds a part: the part, the whole, and the way between them.

Where nothing is sharded every function gives back what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this worker holds only a part of a tensor."""
    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """This worker's part of a tensor, sharing its memory; it may have no rows."""
    return cast("DTensor", tensor.detach()).to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every worker must ask for it at the same time."""
    return cast("DTensor", tensor.detach()).full_tensor() if is_sharded(tensor) else tensor


def wholes(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU where `keep`, gathered one by one; every worker must call it."""
    kept = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            kept[name] = full.detach().cpu()
    return kept


def part_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """This worker's part of a whole tensor, cut as a parameter is; nothing is sent."""
    if not isinstance(parameter, DTensor):
        return tensor
    cut = distribute_tensor(
        tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    return cut.to_local()


def as_sharded(parameter: Tensor, part: Tensor) -> Tensor:
    """A worker's part, in the form that knows its place in the whole, as a parameter's is."""
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


class OwnParameters:
    """This worker's parts of sharded parameters, as plain parameters that share their memory.

    An optimizer and the methods work on them as on any other. Each is made once, so that what an
    optimizer keeps by parameter is found again.
    """

    def __init__(self) -> None:
        self._made: dict[str, nn.Parameter] = {}

    def of(self, name: str, parameter: nn.Parameter) -> nn.Parameter:
        """The parameter itself, or where it is sharded the part of this worker."""
        if not isinstance(parameter, DTensor):
            return parameter
        part = own_part(parameter)
        made = self._made.get(name)
        if made is None or made.data_ptr() != part.data_ptr() or made.shape != part.shape:
            made = self._made[name] = nn.Parameter(part, requires_grad=parameter.requires_grad)
        made.requires_grad_(parameter.requires_grad)
        return made

    def take_gradients(self, model: nn.Module) -> None:
        """Move the gradients of sharded parameters to the parts of this worker."""
        for name, parameter in model.named_parameters():
            if isinstance(parameter, DTensor):
                gradient = parameter.grad
                self.of(name, parameter).grad = None if gradient is None else own_part(gradient)
                parameter.grad = None


def sharded_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of which this worker holds only a part, by name."""
    for name, parameter in model.named_parameters():
        if is_sharded(parameter):
            yield name, parameter


@torch.no_grad()
def fill(target: Tensor, tensor: Tensor) -> None:
    """Copy a whole tensor, or a part of one, into a tensor of which this worker has a part."""
    own_part(target).copy_(own_part(tensor) if is_sharded(tensor) else part_like(target, tensor))

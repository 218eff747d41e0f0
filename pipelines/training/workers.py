"""The worker group as the loop and the methods see it: one process, or a torch process group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class SingleWorker:
    """The only worker: every sum is already the total."""

    rank = 0
    world_size = 1

    def sum(self, tensors: list[Tensor]) -> None:
        """Leave the tensors as they are."""

    def gather(self, value: Any) -> list[Any]:
        """The value alone."""
        return [value]

    def barrier(self) -> None:
        """Wait for nobody."""


class GroupWorkers:
    """One rank of the default process group (gloo on CPU, NCCL on GPU)."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self._sends_only_cuda = dist.get_backend() == "nccl"

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, in place; one message a dtype."""
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for members in groups.values():
            must_move = self._sends_only_cuda and not members[0].is_cuda
            if len(members) == 1 and members[0].is_contiguous() and not must_move:
                dist.all_reduce(members[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in members])
            flat = flat.cuda() if must_move else flat
            dist.all_reduce(flat)
            for tensor, part in zip(
                members, flat.split([member.numel() for member in members]), strict=True
            ):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, in order."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        dist.barrier()


AnyWorkers = SingleWorker | GroupWorkers


def current_workers() -> AnyWorkers:
    """The process group where there is one of more than one rank, else the single worker."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return GroupWorkers()
    return SingleWorker()


def average_gradients(
    workers: AnyWorkers, parameters: list[torch.nn.Parameter], rows: float
) -> None:
    """Replace each gradient by the mean over all rows of the step, in place.

    Each rank holds the gradient of its own rows' mean. Ranks may hold different numbers of rows, or
    none, so the mean is weighted by them: sum_r n_r g_r / sum_r n_r, in one message. A parameter
    that has a gradient on no rank (frozen since the stage began, or unused) keeps none, so that the
    optimizer leaves it alone.

    Args:
        workers: The worker group.
        parameters: The parameters that train, in the same order on every rank.
        rows: Rows (weighted) behind this rank's gradient.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if workers.world_size == 1 or not parameters:
        return
    has_one = [float(parameter.grad is not None) for parameter in parameters]
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in parameters
    ]
    counts = torch.tensor([rows, *has_one], dtype=gradients[0].dtype, device=gradients[0].device)
    torch._foreach_mul_(gradients, rows)
    workers.sum([*gradients, counts])
    total, *holders = counts.tolist()
    torch._foreach_div_(gradients, total)
    for parameter, gradient, held in zip(parameters, gradients, holders, strict=True):
        parameter.grad = gradient if held else None

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Averaged gradient episodic memory: no step goes against the memory's gradient."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.memory import Memory
from ratchet.pipelines.methods.rehearsal import Rehearsal, share_of
from ratchet.pipelines.spec.methods.replay import AgemConfig
from ratchet.pipelines.types import Batch


class Agem(Rehearsal):
    """Where g . g_ref < 0, g becomes g - (g . g_ref / g_ref . g_ref) g_ref.

    g_ref is the gradient of the task loss of `rows_per_step` remembered rows, a mean over all rows
    of all workers, so that every worker makes the same step. g is the whole gradient as the methods
    before this one in the stack left it: put after a penalty it also bends the penalty's pull, put
    before one it does not see it. The products are over all trainable parameters together.

    Source: Chaudhry 2019, arXiv:1812.00420. Deviation: g_ref is taken in eval mode, without
    dropout, so that neither random numbers nor buffers are touched.
    """

    def __init__(self, config: AgemConfig) -> None:
        super().__init__(Memory(config.capacity, config.selection))
        self.config = config

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Take out of the gradients what would raise the loss on the memory."""
        if self.config.capacity == 0 or ctx.is_first:
            return
        parameters = ctx.model.trainable()
        reference = self._reference(ctx, parameters)
        if reference is not None:
            project(list(parameters.values()), reference)

    def _reference(
        self, ctx: TaskContext, parameters: Mapping[str, nn.Parameter]
    ) -> list[Tensor] | None:
        """The mean gradient over all workers' rows; None where no worker remembers any."""
        share = share_of(self.config.rows_per_step, ctx.workers.rank, ctx.workers.world_size)
        count = min(share, len(self.memory))
        if count:
            chosen = self.memory.draw(count, ctx.generator)
            found = gradients_of(ctx, self.memory.batch(chosen, ctx), list(parameters.values()))
        else:
            found = [torch.zeros_like(parameter) for parameter in parameters.values()]
        total = torch.tensor([float(count)], device=ctx.model.device)
        torch._foreach_mul_(found, count)
        ctx.workers.sum([*found, total])
        if total.item() == 0:
            return None
        torch._foreach_div_(found, total.item())
        return found


def gradients_of(ctx: TaskContext, rows: Batch, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The gradient of the task loss of some rows, in eval mode; `.grad` is left alone."""
    with torch.enable_grad(), _evaluating(ctx.model):
        loss = ctx.task_loss(rows, ctx.forward(rows))
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return list(found)


@torch.no_grad()
def project(parameters: list[nn.Parameter], reference: list[Tensor]) -> None:
    """Make `.grad` orthogonal to a reference where it points away from it, in place."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    along = _product(gradients, reference)
    if along < 0:
        scale = -along / _product(reference, reference)
        torch._foreach_add_(gradients, reference, alpha=scale)


def _product(one: list[Tensor], other: list[Tensor]) -> float:
    parts = [torch.sum(a * b, dtype=torch.float64) for a, b in zip(one, other, strict=True)]
    return float(torch.stack(parts).sum())


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None, None, None]:
    """Eval mode, and every module's own mode again at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

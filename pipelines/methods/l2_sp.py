# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
"""L2-SP: weights are held, all alike, near where they started."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ratchet.pipelines.methods.base import MethodState, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.spec.methods.regularization import L2SpConfig
from ratchet.pipelines.types import Batch


class L2Sp(StrengthMethod):
    """strength / 2 * ||theta - start||^2, its gradient added in closed form.

    `towards: pretrained` starts from the base model's own weights, loaded again, so that a lineage
    may take the method up at any time; what the base does not have (heads) is free, and the first
    task is held too. `last` starts from what trained at the end of the previous stage.

    Source: Li 2018, arXiv:1802.01483. Deviations: new heads are pulled towards zero by the
    optimizer's decoupled weight decay alone, which is on top of this pull for all other weights;
    set `training.weight_decay: 0` for the paper's form.
    """

    def __init__(self, config: L2SpConfig) -> None:
        super().__init__(config)
        self.config = config
        self._start: dict[str, Tensor] = {}
        self._is_read = False

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Read the base model's weights, once; the first epoch trains all that ever will."""
        if self.config.towards == "last" or self.strength == 0 or self._is_read:
            return
        base = dict(ctx.model.load_base().named_parameters(prefix="backbone"))
        self._start = {
            name: base[name].detach().to(weight.device)
            for name, weight in ctx.model.trainable().items()
            if name in base
        }
        self._is_read = True

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Add strength * (theta - start) to the gradients."""
        if self.strength > 0:
            add_pull(ctx.model.trainable(), self._start, self.strength)

    def end_task(self, ctx: TaskContext) -> None:
        """Towards the last task: what trains now is where the next stage starts."""
        if self.config.towards == "last" and self.strength > 0:
            weights = ctx.model.trainable().items()
            self._start |= {name: weight.detach().clone() for name, weight in weights}

    def state_dict(self) -> MethodState:
        """The last task's weights; the base model's need no saving."""
        kept = self._start if self.config.towards == "last" else {}
        return MethodState(tensors=dict(kept))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self._start = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self._is_read = False


@torch.no_grad()
def add_pull(
    parameters: Mapping[str, nn.Parameter], start: dict[str, Tensor], strength: float
) -> None:
    """Add strength * (theta - start) to `.grad` of each parameter that has a start, in place."""
    weights, starts, grads = [], [], []
    for name, parameter in parameters.items():
        if name in start:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            start[name] = start[name].to(parameter.device)
            weights.append(parameter)
            starts.append(start[name])
            grads.append(parameter.grad)
    if grads:
        torch._foreach_add_(grads, torch._foreach_sub(weights, starts), alpha=strength)

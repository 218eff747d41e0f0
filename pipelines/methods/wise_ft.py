# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Weight interpolation: a task is learned freely, then the weights go part of the way back."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor

from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.shards import own_part
from ratchet.pipelines.models.taught_model import TASK_PART
from ratchet.pipelines.spec.methods.regularization import WiseFtConfig


class WiseFt(Method):
    """theta <- (1 - strength) * theta + strength * theta_before, once, when a task ends.

    theta_before are the weights before the task; in a lineage's first task the base model's. What
    was before the task and trained in it is interpolated: the backbone, shared adapters, the head
    blocks of earlier tasks. What is new with the task stays as trained: its head block, blocks that
    were made for tasks to come, in the first task all heads. Buffers stay as they are.

    Source: Wortsman 2022, arXiv:2109.01903. Deviations: the paper goes once, with
    alpha = 1 - strength, from the pretrained weights to the fine-tuned ones; here each task goes
    from the weights before it, so that a task counts with the power of `strength` by the tasks
    after it, and the base with that of all. The paper's head before is made of class names; here a
    new task's head has no state before it, and is the one that was trained with the free backbone.
    Of low-rank adapters the factors are interpolated, not their product.
    """

    settles_weights = True

    def __init__(self, config: WiseFtConfig) -> None:
        self.config = config
        self._before: dict[str, Tensor] | None = None

    def begin_task(self, ctx: TaskContext) -> None:
        """Forget the last task's start."""
        self._before = None

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Take the weights before the task, once; the first epoch trains all that ever will."""
        if self.config.strength == 0 or self._before is not None:
            return
        seen = {task.id for task in ctx.seen}
        self._before = {
            name: weight.detach().clone()
            for name, weight in ctx.model.trainable().items()
            if was_before(name, seen)
        }

    @torch.no_grad()
    def end_task(self, ctx: TaskContext) -> None:
        """Go back part of the way, on every worker alike, each with its part of what is sharded."""
        before, self._before = self._before or {}, None
        moved = [(own_part(p), name) for name, p in ctx.model.named_parameters() if name in before]
        if moved:
            weights = [weight for weight, _ in moved]
            starts = [before[name].to(weight.device) for weight, name in moved]
            torch._foreach_lerp_(weights, starts, self.config.strength)

    def state_dict(self) -> MethodState:
        """The weights before the task, in the middle of it; nothing between tasks."""
        return MethodState(tensors=dict(self._before or {}))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self._before = kept or None

    def parameter_of(self, name: str) -> str | None:
        """Each is laid out as the parameter that it was."""
        return name


def was_before(name: str, seen: Set[int]) -> bool:
    """Whether a parameter had learned something before the task, or came with the base model.

    Args:
        name: Its name. One named for a task is as old as that task, and the one head of all tasks
            (`shared`) as old as the first of them.
        seen: Ids of the tasks learned before.
    """
    owner = TASK_PART.search(name)
    if owner is not None:
        return int(owner[1]) in seen
    return bool(seen) or not name.startswith("heads.")

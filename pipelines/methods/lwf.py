# pyright: reportPrivateUsage=false
"""Learning without forgetting: the old model's answers on the new inputs are kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ratchet.pipelines.methods.base import MethodState, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.causal_lm import learned_tokens
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.regularization import LwfConfig
from ratchet.pipelines.types import Batch, Output


class Lwf(StrengthMethod):
    """T^2 KL(teacher || student) on the rows of the new task, over the classes seen before.

    Source: Li & Hoiem 2016, arXiv:1606.09282. The teacher is the model as the last task left it, in
    eval mode, fed exactly the student's inputs. Deviations: KL instead of the cross-entropy with
    soft targets (the same gradient), and with a head a task the mean over old tasks of one KL each,
    as the softmaxes are separate. A language model is held to the teacher's next-token distribution
    at every learned token; as in the task loss, every row counts once.
    """

    def __init__(self, config: LwfConfig) -> None:
        super().__init__(config)
        self.config = config
        self._teacher: TaughtModel | None = None
        self._saved: dict[str, Tensor] = {}

    def begin_task(self, ctx: TaskContext) -> None:
        """Take the teacher, unless nothing was learned before."""
        self._teacher = None if ctx.is_first else frozen_copy(ctx.model)

    def begin_epoch(self, ctx: TaskContext) -> None:
        """After a restore inside a task, make the teacher again from its saved weights."""
        if self._saved and self._teacher is None:
            self._teacher = frozen_copy(ctx.model)
            self._teacher.load_learned_state(self._saved)
        self._saved = {}

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The distillation term, a mean over the new rows."""
        if self._teacher is None or self.strength == 0:
            return None
        new = batch.part("new")
        with torch.no_grad(), ctx.autocast():
            wanted = self._teacher(new.inputs).logits
        given = output.all_logits[batch.parts["new"]]
        if ctx.model.kind == "causal_lm":
            terms = [_token_divergence(wanted, given, new, self.config.temperature)]
        else:
            terms = [
                _divergence(wanted[:, classes], given[:, classes], self.config.temperature).mean()
                for classes in _class_groups(ctx)
            ]
        return self.strength * torch.stack(terms).mean()

    def end_task(self, ctx: TaskContext) -> None:
        """Let the teacher go; the next one is the model as it is now."""
        self._teacher = None

    def state_dict(self) -> MethodState:
        """The teacher's own weights, in the middle of a task; nothing between tasks."""
        if self._teacher is None:
            return MethodState()
        tensors = {name: t.clone() for name, t in self._teacher.learned_state().items()}
        return MethodState(tensors=tensors)

    def load_state_dict(self, state: MethodState) -> None:
        """Keep the teacher's weights until the model is at hand."""
        self._saved = dict(state.tensors)


def frozen_copy(model: TaughtModel) -> TaughtModel:
    """A copy in eval mode that shares what does not train with the original."""
    shared: dict[int, object] = {id(p): p for p in model.parameters() if not p.requires_grad}
    shared[id(model.tokenizer)] = model.tokenizer
    shared[id(model._frozen_base)] = model._frozen_base
    return copy.deepcopy(model, shared).eval().requires_grad_(False)


def _class_groups(ctx: TaskContext) -> Sequence[list[int]]:
    """Old classes that share a softmax, one list a softmax."""
    head = ctx.model.head
    old = [sorted(head.task_classes[task.id]) for task in ctx.seen]
    if head.layout == "per_task":
        return old
    return [sorted({index for classes in old for index in classes})]


def _divergence(wanted: Tensor, given: Tensor, temperature: float) -> Tensor:
    """T^2 KL of each pair of rows [rows, classes], [rows]."""
    teacher = functional.log_softmax(wanted / temperature, dim=-1)
    student = functional.log_softmax(given / temperature, dim=-1)
    kl = functional.kl_div(student, teacher, reduction="none", log_target=True)
    return temperature**2 * kl.sum(dim=-1)


def _token_divergence(wanted: Tensor, given: Tensor, batch: Batch, temperature: float) -> Tensor:
    """The mean over rows of the mean over each row's learned tokens, over the whole vocabulary."""
    mask = learned_tokens(batch.inputs)
    found = _divergence(wanted[:, :-1][mask], given[:, :-1][mask], temperature)
    by_row = torch.zeros(mask.shape, device=found.device).masked_scatter(mask, found).sum(dim=1)
    return (by_row / mask.sum(dim=1).clamp(min=1)).mean()

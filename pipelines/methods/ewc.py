"""Elastic weight consolidation: weights that old tasks depend on are held by a spring."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ratchet.pipelines.methods.base import MethodState, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.importance.mean import mean_magnitudes
from ratchet.pipelines.methods.importance.row_by_row import Objective
from ratchet.pipelines.methods.penalty import QuadraticPenalty, held_parameter
from ratchet.pipelines.models.shards import sharded_parameters
from ratchet.pipelines.spec.methods.regularization import EwcConfig
from ratchet.pipelines.types import Batch, Output


class Ewc(StrengthMethod):
    """strength / 2 * sum_i F_i (theta_i - anchor_i)^2, its gradient added in closed form.

    F is the diagonal Fisher information: the mean over examples of the per-example squared gradient
    of log p(y | x), in eval mode. `labels: sampled` draws y from the model (the true Fisher),
    `observed` takes the data's labels (the empirical one).

    Source: Kirkpatrick 2017, arXiv:1612.00796; `decay` < 1 is the online form of Schwarz 2018,
    arXiv:1805.06370. Deviation: `per_task` keeps the sum of all tasks' springs as one spring
    (importances added, anchors averaged by them): the same gradient, and neither state nor time
    grows with the tasks.
    """

    def __init__(self, config: EwcConfig) -> None:
        super().__init__(config)
        self.config = config
        self.penalty = QuadraticPenalty()

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Add strength * F * (theta - anchor) to the gradients."""
        if self.strength > 0 and not ctx.is_first:
            self.penalty.add_gradient(ctx.model.trainable(), self.strength)

    def end_task(self, ctx: TaskContext) -> None:
        """Measure the Fisher of what was trained and move the anchor."""
        if self.strength == 0:
            return
        importance = mean_magnitudes(
            ctx, self._log_likelihood(ctx), max_examples=self.config.max_examples
        )
        before = dict(self.penalty.constant)
        self.penalty.merge(
            importance,
            ctx.model.trainable(),
            decay=self.config.decay,
            per_task=self.config.per_task,
        )
        if ctx.model.is_sharded:
            self._sum_constants(ctx, before)

    def _sum_constants(self, ctx: TaskContext, before: Mapping[str, Tensor]) -> None:
        """Add up what each worker's part of a parameter added to the penalty's constant."""
        sharded = {name for name, _ in sharded_parameters(ctx.model)}
        for name in sorted(sharded & self.penalty.constant.keys()):
            kept = before.get(name, torch.zeros((), dtype=torch.float64)) * self.config.decay
            added = (self.penalty.constant[name] - kept).reshape(1)
            ctx.workers.sum([added])
            self.penalty.constant[name] = kept + added[0]

    def _log_likelihood(self, ctx: TaskContext) -> Objective:
        def log_likelihood(batch: Batch, output: Output) -> Tensor:
            """Log p(y | x) of each row, [rows]."""
            restricted = ctx.model.restricted(output, batch, ctx.known_task_ids)
            return ctx.model.log_likelihood(restricted, batch, self.config.labels, ctx.generator)

        return log_likelihood

    def state_dict(self) -> MethodState:
        """Importances and anchors by parameter name."""
        return MethodState(tensors=dict(self.penalty.state_dict()))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.penalty.load_state_dict(state.tensors)

    def parameter_of(self, name: str) -> str | None:
        """Importances and anchors lie as the parameter that they belong to."""
        return held_parameter(name)

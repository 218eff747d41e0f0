"""Synaptic intelligence: weights are held by what their movement did for the loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.method_config import SiConfig
from pipelines.methods.base import Method, MethodState
from pipelines.methods.penalty import QuadraticPenalty
from pipelines.types import Batch, Output, TaskContext


class Si(Method):
    """strength * sum_i Omega_i (theta_i - anchor_i)^2, its gradient added in closed form.

    While a stage is learned, omega_i sums -g_i * (theta_i after the step - before it). At its end
    Omega_i grows by max(0, omega_i) / ((theta_i at the end - at the start)^2 + damping).

    Source: Zenke 2017, arXiv:1703.04200. g is the gradient as it stands after the average over the
    workers: before the clip, which shortens the step but not g, and without what methods add as
    gradients (the penalty of this one and of others). The movement is the whole one that the
    optimizer makes. Deviation: what other methods add to the loss (rehearsed rows, distillation) is
    in g.
    """

    def __init__(self, config: SiConfig) -> None:
        self.config = config
        self.penalty = QuadraticPenalty()
        self._path: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}
        self._step: _Step | None = None

    def begin_task(self, ctx: TaskContext) -> None:
        """Begin the sums of this stage."""
        self._path, self._start, self._step = {}, {}, None

    def watch_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Keep the task gradient and the weights as they are before the step."""
        if self.config.strength == 0:
            return
        self._settle()
        self._step = _Step(ctx.model.trainable())
        for name, before in self._step.before.items():
            self._start.setdefault(name, before)

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Add 2 * strength * Omega * (theta - anchor) to the gradients."""
        self.penalty.add_gradient(ctx.model.trainable(), 2 * self.config.strength)

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Add what the step did to the sums."""
        self._settle()

    def end_task(self, ctx: TaskContext) -> None:
        """Turn the sums into importances and move the anchor."""
        if self.config.strength == 0:
            return
        self._settle()
        weights = {
            name: weight.detach()
            for name, weight in ctx.model.named_parameters()
            if weight.requires_grad or name in self._path
        }
        damping = self.config.damping
        importance = {
            name: path.clamp(min=0)
            / ((weights[name] - self._start[name].to(path.device)).float().square() + damping)
            for name, path in self._path.items()
        }
        self.penalty.merge(importance, weights)
        self._path, self._start = {}, {}

    def _settle(self) -> None:
        """Finish the step that was begun, if any: a worker without rows has no `after_step`."""
        if self._step is not None:
            self._step.add_to(self._path)
            self._step = None

    def state_dict(self) -> MethodState:
        """Importances and anchors; inside a stage its sums and where its weights started too."""
        self._settle()
        tensors = self.penalty.state_dict()
        tensors |= {f"path/{name}": path.clone() for name, path in self._path.items()}
        tensors |= {f"start/{name}": start for name, start in self._start.items()}
        return MethodState(tensors=tensors)

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        own: dict[str, dict[str, Tensor]] = {"path": {}, "start": {}}
        held = {}
        for key, tensor in state.tensors.items():
            field, _, name = key.partition("/")
            if field in own:
                own[field][name] = tensor.clone()
            else:
                held[key] = tensor
        self.penalty.load_state_dict(held)
        self._path, self._start, self._step = own["path"], own["start"], None


class _Step:
    """The gradients and weights before one optimizer step, as copies: the live ones change.

    Args:
        parameters: What trains, by name; those without a gradient do not move.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.weights = {name: p for name, p in parameters.items() if p.grad is not None}
        grads = [p.grad for p in self.weights.values() if p.grad is not None]
        self.gradients: list[Tensor] = [grad.detach().clone().float() for grad in grads]
        self.before = {name: p.detach().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def add_to(self, path: dict[str, Tensor]) -> None:
        """Add -gradient * movement of each weight to its sum in `path`, made where missing."""
        if not self.weights:
            return
        for name, before in self.before.items():
            known = path.get(name)
            path[name] = (
                torch.zeros_like(before, dtype=torch.float32)
                if known is None
                else known.to(before.device)
            )
        moved = torch._foreach_sub(list(self.weights.values()), list(self.before.values()))
        sums = [path[name] for name in self.weights]
        torch._foreach_addcmul_(sums, self.gradients, [way.float() for way in moved], value=-1.0)

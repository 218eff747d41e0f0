# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
"""Synaptic intelligence: weights are held by what their movement did for the loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ratchet.pipelines.methods.base import MethodState, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.penalty import QuadraticPenalty
from ratchet.pipelines.spec.methods.regularization import SiConfig
from ratchet.pipelines.types import Batch


class Si(StrengthMethod):
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
        super().__init__(config)
        self.config = config
        self.penalty = QuadraticPenalty()
        self._path: dict[str, Tensor] = {}
        self._start: dict[str, Tensor] = {}
        self._step = _Step()

    def begin_task(self, ctx: TaskContext) -> None:
        """Begin the sums of this stage."""
        self._path, self._start, self._step = {}, {}, _Step()

    def watch_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Keep the task gradient and the weights as they are before the step."""
        if self.strength == 0:
            return
        parameters = ctx.model.trainable()
        self._step.begin(parameters)
        for name, parameter in parameters.items():
            if name not in self._start:
                self._start[name] = parameter.detach().clone()

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Add 2 * strength * Omega * (theta - anchor) to the gradients."""
        self.penalty.add_gradient(ctx.model.trainable(), 2 * self.strength)

    def correct_weights(self, ctx: TaskContext) -> None:
        """Add what the step did to the sums, on every worker: they must not drift apart."""
        self._step.finish(self._path)

    def end_task(self, ctx: TaskContext) -> None:
        """Turn the sums into importances and move the anchor."""
        if self.strength == 0:
            return
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
        self._path, self._start, self._step = {}, {}, _Step()

    def state_dict(self) -> MethodState:
        """Importances and anchors; inside a stage its sums and where its weights started too."""
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
        self._path, self._start, self._step = own["path"], own["start"], _Step()


class _Step:
    """The gradients and weights before an optimizer step, as copies: the live ones change.

    The copies are made over those of the step before: fresh memory would cost more than the sums.
    """

    def __init__(self) -> None:
        self._moving: dict[str, nn.Parameter] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Look at what trains, by name; what has no gradient does not move."""
        self._moving = {name: p for name, p in parameters.items() if p.grad is not None}
        gradients = {name: p.grad for name, p in self._moving.items() if p.grad is not None}
        _copy(gradients, self._gradients)
        _copy(self._moving, self._before)

    @torch.no_grad()
    def finish(self, path: dict[str, Tensor]) -> None:
        """Add -gradient * movement of each weight to its sum in `path`, made where missing."""
        names = list(self._moving)
        if not names:
            return
        for name in names:
            before, known = self._before[name], path.get(name)
            path[name] = torch.zeros_like(before) if known is None else known.to(before.device)
        way_back = [self._before[name] for name in names]
        torch._foreach_sub_(way_back, list(self._moving.values()))
        gradients = [self._gradients[name] for name in names]
        torch._foreach_addcmul_([path[name] for name in names], gradients, way_back)
        self._moving = {}


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], copies: dict[str, Tensor]) -> None:
    """Copy tensors over earlier copies of them, float32."""
    for name, value in values.items():
        if name not in copies:
            copies[name] = torch.empty_like(value, dtype=torch.float32)
    if values:
        torch._foreach_copy_([copies[name] for name in values], list(values.values()))

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Orthogonal subspace fine-tuning: all weights train, except in their strongest directions."""

from __future__ import annotations

from typing import cast

import torch
from peft.tuners.osf.utils import decompose_weight_matrix
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.adapters import OsfConfig
from ratchet.pipelines.types import Batch, Task

KINDS = ("left", "values", "right")


class Osf(Method):
    """W = U S V + W_low at a task's begin; only W_low trains, orthogonal to U and V on both sides.

    U, S, V are the top `keep` of the singular directions of each weight, taken again when a task
    begins. What is protected: W^T U and W V^T stay as they were (up to rounding).

    Source: Nayak 2025, arXiv:2504.07097. The decomposition is PEFT's (0.21), whose `effective_rank`
    is the kept, frozen rank. Its layers are not used: they project gradients only, and AdamW's step
    along a projected gradient leaves the subspace, because it scales every number by itself; their
    hooks are lost on copies, and their factors have no place in a version. Here the gradient is
    projected before the clip, and the weight itself after each step, which also undoes weight decay
    in the kept directions. The weights stay plain weights: the set that they can reach,
    W_low = (I - U U^T) W_low (I - V^T V), is the same as that of PEFT's factors.

    Deviations: the same share of every weight, not one by the layer's importance. Embeddings,
    norms, biases and the output layer of a language model do not train: they have no directions to
    keep apart.
    """

    def __init__(self, config: OsfConfig) -> None:
        self.config = config
        self._kept: dict[str, dict[str, Tensor]] = {}

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Let the weight matrices of the blocks train and nothing else of the backbone.

        Raises:
            MethodError: The backbone has no plain linear layers.
        """
        model.backbone.requires_grad_(False)
        weights = _weights(model)
        if not weights:
            raise MethodError(
                "methods: osf decomposes the weights of linear layers, and this backbone of type "
                f"{model.backbone.config.model_type!r} has none; use another method or model"
            )
        for weight in weights.values():
            weight.requires_grad_(True)

    @torch.no_grad()
    def begin_task(self, ctx: TaskContext) -> None:
        """Decompose every weight as it is now; the first worker's answer holds for all."""
        self._kept = {
            name: _top(weight, self.config.keep) for name, weight in _weights(ctx.model).items()
        }
        tensors = [tensor for kept in self._kept.values() for tensor in kept.values()]
        if ctx.workers.rank > 0:
            for tensor in tensors:
                tensor.zero_()
        ctx.workers.sum(tensors)

    @torch.no_grad()
    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Take what points along the kept directions out of the gradients."""
        for name, weight in _weights(ctx.model).items():
            if weight.grad is not None:
                left, _, right = (self._kept[name][kind] for kind in KINDS)
                weight.grad -= left @ (left.T @ weight.grad)
                weight.grad -= (weight.grad @ right.T) @ right

    @torch.no_grad()
    def correct_weights(self, ctx: TaskContext) -> None:
        """Put the kept directions back where the step has moved them."""
        for name, weight in _weights(ctx.model).items():
            left, values, right = (self._kept[name][kind] for kind in KINDS)
            weight += left @ (values[:, None] * right - left.T @ weight)
            weight += (left * values - weight @ right.T) @ right

    def end_task(self, ctx: TaskContext) -> None:
        """Let the directions go: the next task takes its own."""
        self._kept = {}

    def state_dict(self) -> MethodState:
        """The kept directions, in the middle of a task; nothing between tasks."""
        tensors = {
            f"{kind}/{name}": tensor
            for name, kept in self._kept.items()
            for kind, tensor in kept.items()
        }
        return MethodState(tensors=tensors)

    def load_state_dict(self, state: MethodState) -> None:
        """Put back what `state_dict` gave."""
        self._kept = {}
        for key, tensor in state.tensors.items():
            kind, _, name = key.partition("/")
            self._kept.setdefault(name, {})[kind] = tensor


def _weights(model: TaughtModel) -> dict[str, nn.Parameter]:
    """The weight matrices of the backbone's linear layers, without the output layer's."""
    embeddings = (model.backbone.get_input_embeddings(), model.backbone.get_output_embeddings())
    left_out = {id(getattr(module, "weight", None)) for module in embeddings}
    return {
        f"{name}.weight": cast("nn.Parameter", module.weight)
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module.weight) not in left_out
    }


def _top(weight: nn.Parameter, keep: float) -> dict[str, Tensor]:
    """The top singular directions: left [rows, kept], values [kept], right [kept, columns]."""
    found = decompose_weight_matrix(weight.detach(), max(1, int(min(weight.shape) * keep)))
    return {kind: found[f"{key}_high"].clone() for kind, key in zip(KINDS, "USV", strict=True)}

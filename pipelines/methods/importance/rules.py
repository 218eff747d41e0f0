# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Per-example gradients of one module's parameters, from its inputs and its output gradients.

A rule sees every call of its module in one forward pass, adds up what the calls give each example,
and only then takes the magnitude: (sum of gradients)^2 is wanted, not the sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratchet.pipelines.models.heads import CosineBlock

Calls = Sequence[tuple[Tensor, Tensor]]
"""Input and output gradient of each call of a module, both with the examples first."""

_CPU_SCRATCH = 160 * 1024
"""Numbers of a scratch buffer that the second-level cache of a core holds beside its operands."""

_DEVICE_SCRATCH = 64 * 1024 * 1024
"""The same on an accelerator, where few large products are faster than many small ones."""


@dataclass(frozen=True)
class Magnitude:
    """What is summed over the examples: the square (`power` 2) or absolute value (1) of a gradient.

    Both keep products, |a b|^p = |a|^p |b|^p, which makes the sum over outer products one matrix
    product.
    """

    power: Literal[1, 2] = 2

    def of(self, values: Tensor) -> Tensor:
        """|values|^power in float32."""
        values = values.float()
        return values.square() if self.power == 2 else values.abs()

    def add_one(self, total: Tensor, gradient: Tensor) -> None:
        """Add the magnitude of one example's gradient; the gradient may be overwritten."""
        if self.power == 2:
            total.addcmul_(gradient, gradient)
        else:
            total.add_(gradient.abs_())

    def add_rows(self, total: Tensor, gradients: Tensor) -> None:
        """Add the magnitudes of many examples' gradients [rows, ...]."""
        total.add_(self.of(gradients).sum(0))


Rule = Callable[[nn.Module, Calls, Mapping[str, Tensor], Magnitude], None]
"""Adds the magnitudes of a module's per-example gradients to its running sums, by parameter."""


def linear_rule(
    _module: nn.Module, calls: Calls, sums: Mapping[str, Tensor], magnitude: Magnitude
) -> None:
    """`nn.Linear`: the gradient of an example is sum_t g_t a_t^T."""
    inputs = _joined([a.reshape(a.shape[0], -1, a.shape[-1]) for a, _ in calls])
    grads = _joined([g.reshape(g.shape[0], -1, g.shape[-1]) for _, g in calls])
    if "bias" in sums:
        magnitude.add_rows(sums["bias"], grads.sum(1, dtype=torch.float32))
    if "weight" in sums:
        _add_outer(sums["weight"], inputs, grads, magnitude)


def _add_outer(total: Tensor, inputs: Tensor, grads: Tensor, magnitude: Magnitude) -> None:
    """Add |sum_t g_t a_t^T|^p of each example to total [out, in]."""
    rows, positions, width = inputs.shape
    if positions == 1:
        total.addmm_(magnitude.of(grads[:, 0]).T, magnitude.of(inputs[:, 0]))
        return
    inputs = inputs.to(grads.dtype)
    columns = grads.transpose(1, 2)
    budget = _CPU_SCRATCH if total.device.type == "cpu" else _DEVICE_SCRATCH
    per_chunk = budget // total.numel()
    if per_chunk > 1:
        for start in range(0, rows, per_chunk):
            some = slice(start, start + per_chunk)
            magnitude.add_rows(total, torch.bmm(columns[some], inputs[some]))
        return
    # A tile of output units at a time: scratch and running sum stay in the cache over all examples.
    tile = max(1, min(total.shape[0], budget // width))
    scratch = torch.empty(tile, width, dtype=grads.dtype, device=grads.device)
    exact = scratch if grads.dtype == torch.float32 else scratch.float()
    for start in range(0, total.shape[0], tile):
        part = total[start : start + tile]
        product, gradient = scratch[: part.shape[0]], exact[: part.shape[0]]
        for row in range(rows):
            torch.mm(columns[row, start : start + tile], inputs[row], out=product)
            if gradient is not product:
                gradient.copy_(product)
            magnitude.add_one(part, gradient)


def embedding_rule(
    module: nn.Module, calls: Calls, sums: Mapping[str, Tensor], magnitude: Magnitude
) -> None:
    """`nn.Embedding`: the gradient of a row is the sum over the places where its token stands."""
    assert isinstance(module, nn.Embedding)
    total = sums["weight"]
    tokens = _joined([ids.reshape(ids.shape[0], -1) for ids, _ in calls])
    grads = _joined([g.reshape(g.shape[0], -1, g.shape[-1]) for _, g in calls])
    examples = torch.arange(tokens.shape[0], device=tokens.device)[:, None]
    keys, places = torch.unique(examples * total.shape[0] + tokens, return_inverse=True)
    gradients = torch.zeros(len(keys), total.shape[1], device=total.device)
    gradients.index_add_(0, places.flatten(), grads.reshape(-1, total.shape[1]).float())
    owners = keys % total.shape[0]
    if module.padding_idx is not None:
        gradients[owners == module.padding_idx] = 0.0
    total.index_add_(0, owners, magnitude.of(gradients))


def layer_norm_rule(
    module: nn.Module, calls: Calls, sums: Mapping[str, Tensor], magnitude: Magnitude
) -> None:
    """`nn.LayerNorm`: the gradient of the weight is sum_t g_t times the normalized input."""
    assert isinstance(module, nn.LayerNorm)
    shape = tuple(module.normalized_shape)
    grads = _joined([g.reshape(g.shape[0], -1, *shape) for _, g in calls])
    if "bias" in sums:
        magnitude.add_rows(sums["bias"], grads.sum(1, dtype=torch.float32))
    if "weight" in sums:
        inputs = _joined([x.reshape(x.shape[0], -1, *shape) for x, _ in calls]).float()
        normalized = functional.layer_norm(inputs, shape, eps=module.eps)
        magnitude.add_rows(sums["weight"], normalized.mul_(grads).sum(1))


def module_rule(
    module: nn.Module, calls: Calls, sums: Mapping[str, Tensor], magnitude: Magnitude
) -> None:
    """Any module of one tensor in, one out: its forward differentiated for each row.

    Rows must not see each other. Holds [rows, *parameter] for each parameter: for small modules.
    """
    own = {name: parameter.detach() for name, parameter in module.named_parameters(recurse=False)}

    def pull_back(row: Tensor, grad: Tensor) -> dict[str, Tensor]:
        def forward(parameters: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(module, parameters, (row[None],))[0]

        pull = torch.func.vjp(forward, own)[1]
        return pull(grad)[0]

    each = [torch.func.vmap(pull_back)(inputs, grads) for inputs, grads in calls]
    for name, total in sums.items():
        magnitude.add_rows(total, torch.stack([call[name] for call in each]).sum(0))


def _joined(calls: Sequence[Tensor]) -> Tensor:
    """Calls side by side as further positions [rows, positions, ...], to be summed with them."""
    return calls[0] if len(calls) == 1 else torch.cat(tuple(calls), dim=1)


RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(
    {
        nn.Linear: linear_rule,
        nn.Embedding: embedding_rule,
        nn.LayerNorm: layer_norm_rule,
        nn.RMSNorm: module_rule,
        CosineBlock: module_rule,
    }
)
"""The rule of each module type; subclasses are other types, for their forward may differ."""


def rule_of(kind: type[nn.Module], rules: Mapping[type[nn.Module], Rule]) -> Rule | None:
    """The rule of a module of this exact type.

    The decoders of transformers each bring a root-mean-square norm of their own: their classes are
    known by name, and measured by the forward that they have.
    """
    return rules.get(nn.RMSNorm if kind.__name__.endswith("RMSNorm") else kind)

"""Mixtures of experts beside the feed-forward parts of a backbone, grown task by task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ratchet.pipelines.models.bottleneck import Bottleneck
from ratchet.pipelines.models.part import Part
from ratchet.pipelines.models.sublayers import Sublayers


def top_gates(logits: Tensor, top_k: int) -> Tensor:
    """Weights of the experts: a softmax over the `top_k` largest logits of a row, 0 elsewhere.

    Of equal logits the older expert's counts as larger, on every machine.

    Args:
        logits: [rows, experts], oldest expert first.
        top_k: Experts that a row may have; all where there are fewer.
    """
    ranked, order = logits.float().sort(dim=-1, descending=True, stable=True)
    kept = ranked[:, :top_k].softmax(dim=-1)
    return torch.zeros_like(ranked).scatter(-1, order[:, :top_k], kept)


def imbalance(importance: Tensor) -> Tensor:
    """The squared coefficient of variation of the experts' summed gates [experts], a scalar."""
    mean = importance.mean()
    return ((importance - mean) ** 2).mean() / (mean**2).clamp(min=1e-10)


class ExpertGroup(nn.Module):
    """The experts that one task brought, and their rows of the gate.

    Args:
        dim: Width of the model.
        num_experts: Experts of the group.
        bottleneck: Width of an expert.
    """

    def __init__(self, dim: int, num_experts: int, bottleneck: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, num_experts, bias=False)
        nn.init.normal_(self.gate.weight, std=0.02)
        self.experts = nn.ModuleList(Bottleneck(dim, bottleneck) for _ in range(num_experts))


class Mixture(nn.Module):
    """Every expert of one block under one gate: sum_e g_e(x) E_e(x).

    The gate is made of blocks of rows, one a group, like the heads: growing it changes no tensor.

    Args:
        top_k: Experts that answer a token.
    """

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.groups = nn.ModuleDict()

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, seq, dim] -> what to add, of the same shape, and the gates [rows, seq, experts].

        An expert computes only the tokens that chose it.
        """
        rows = states.reshape(-1, states.shape[-1])
        groups = [group for group in self.groups.values() if isinstance(group, ExpertGroup)]
        inputs = rows.to(groups[0].gate.weight.dtype)
        gates = top_gates(torch.cat([group.gate(inputs) for group in groups], -1), self.top_k)
        experts = [expert for group in groups for expert in group.experts]
        total = torch.zeros_like(rows)
        for place, expert in enumerate(experts):
            chosen = gates[:, place].detach().nonzero()[:, 0]
            if len(chosen):
                weight = gates[chosen, place, None].to(rows.dtype)
                total = total.index_add(0, chosen, weight * expert(rows[chosen]).to(rows.dtype))
        return total.view_as(states), gates.view(*states.shape[:-1], -1)


class ExpertBlocks(Part):
    """A mixture beside the feed-forward part of every block.

    In training each forward pass leaves the gates summed over its real tokens, for the balance
    term; `take_imbalance` reads and drops them.

    Args:
        body: The module that is called with the attention mask.
        blocks: The sublayers of every block.
        dim: Width of the model.
        top_k: Experts that answer a token.
    """

    def __init__(self, body: nn.Module, blocks: Sequence[Sublayers], dim: int, top_k: int) -> None:
        super().__init__()
        self.dim = dim
        self.mixtures = nn.ModuleList(Mixture(top_k) for _ in blocks)
        self._mask: Tensor | None = None
        self._importance: dict[int, Tensor] = {}
        body.register_forward_pre_hook(self._note_mask, with_kwargs=True)
        for index, block in enumerate(blocks):
            if block.sum is None:
                block.feed_forward.register_forward_hook(partial(self._beside, index))
            else:
                block.sum.register_forward_pre_hook(partial(self._into_sum, index))

    def grow(self, task_id: int, num_experts: int, bottleneck: int) -> None:
        """Add the experts of a task to every block; their answers are zero at first."""
        for mixture in self._mixtures():
            group = ExpertGroup(self.dim, num_experts, bottleneck).requires_grad_(False)
            mixture.groups[_group(task_id)] = group

    def open(self, task_ids: Collection[int]) -> None:
        """Let the experts and gate rows of some tasks train, and no others."""
        names = {_group(task_id) for task_id in task_ids}
        for mixture in self._mixtures():
            for name, group in mixture.groups.items():
                group.requires_grad_(name in names)

    def take_imbalance(self) -> Tensor | None:
        """The mean imbalance of the blocks in the last training pass, a scalar; None without."""
        found = [imbalance(importance) for importance in self._importance.values()]
        self.forget()
        return torch.stack(found).mean() if found else None

    def forget(self) -> None:
        """Drop what the last forward pass left."""
        self._importance = {}
        self._mask = None

    def _mixtures(self) -> list[Mixture]:
        return [mixture for mixture in self.mixtures if isinstance(mixture, Mixture)]

    def _note_mask(self, _body: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        self._mask = mask if self.training and not self.silent else None

    def _beside(self, index: int, _module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output if self.silent else output + self._added(index, args[0])

    def _into_sum(self, index: int, _module: nn.Module, args: Any) -> Any:
        """Before output + residual is normalised: what is added to one is added to the sum."""
        if self.silent:
            return None
        output, residual = args
        return output, residual + self._added(index, residual)

    def _added(self, index: int, states: Tensor) -> Tensor:
        added, gates = self.mixtures[index](states)
        if self.training and torch.is_grad_enabled():
            real = gates if self._mask is None else gates * self._mask[..., None]
            self._importance[index] = real.sum(dim=(0, 1))
        return added


def _group(task_id: int) -> str:
    """The name of a task's group; not `task_NNN`, as every expert shapes every task's features."""
    return f"grown_{task_id:03d}"

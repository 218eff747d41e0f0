"""Low-rank adapters that are orthogonal to each other: one a task, all of them summed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer, LoraModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from ratchet.pipelines.methods.base import StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.lora import add_adapter
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.adapters import OLoraConfig
from ratchet.pipelines.types import Batch, Output, Task


class OLora(StrengthMethod):
    """W + (alpha / rank) sum_i B_i A_i, of which the newest pair trains; see `OLoraConfig`.

    The loss has strength * sum over layers and i < t of ||A_i A_t^T||_1, the sum of absolute
    values. In the first task it is 0, and the method is plain LoRA.

    Source: Wang 2023, arXiv:2310.14152. Deviations: all linear layers, not only the attention's
    queries and values; the L2 penalty on the new adapter, which the authors' code has with weight
    0 by default, is left to weight decay; tasks that are learned at once share an adapter. In the
    class-incremental scenario the head grows, and only the adapters are kept apart.
    """

    def __init__(self, config: OLoraConfig) -> None:
        super().__init__(config)
        self.config = config

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the adapter of a task's stage where it is missing; it becomes the one that trains."""
        add_adapter(model, adapter_name(task), self.config)
        _sum_all(model)

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Let all adapters answer together, whatever the task, and the newest train."""
        _sum_all(model)

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The penalty on directions that older adapters use; nothing in the first task."""
        if self.strength == 0:
            return None
        terms = [
            (old @ new.T).abs().sum() for old, new in _old_and_new(ctx.model.backbone) if len(old)
        ]
        return self.strength * torch.stack(terms).sum() if terms else None


def adapter_name(task: Task) -> str:
    """The name of the adapter of a task's stage: not `task_NNN`, as it shapes later tasks too."""
    return f"sum_{task.stage:03d}"


def _sum_all(model: TaughtModel) -> None:
    backbone = model.backbone
    assert isinstance(backbone, PeftModel), "expand() made it"
    names = list(backbone.peft_config)
    lora = cast("LoraModel", backbone.base_model)
    lora.set_adapter(names)
    if len(names) > 1:
        lora.set_requires_grad(names[:-1], requires_grad=False)


def _old_and_new(backbone: PreTrainedModel | PeftModel) -> Iterator[tuple[Tensor, Tensor]]:
    """A of all old adapters [old ranks, in] and A of the newest [rank, in], layer by layer."""
    assert isinstance(backbone, PeftModel), "expand() made it"
    *old, newest = backbone.peft_config
    for module in backbone.modules():
        if isinstance(module, LoraLayer) and newest in module.lora_A:
            factors = {n: cast("nn.Linear", f).weight for n, f in module.lora_A.items()}
            new = factors[newest]
            yield torch.cat([factors[name] for name in old] or [new[:0]]), new

"""Heads as a method: layout, cosine logits, frozen old blocks, blocks for tasks to come."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.heads import Heads as HeadBlocks
from ratchet.pipelines.models.heads import Layout
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.isolation import HeadsConfig
from ratchet.pipelines.types import Task


class Heads(Method):
    """Adds the head block of each task; see `HeadsConfig`.

    Source: the SEQ* study of Zheng 2023, arXiv:2312.07887, for cosine, frozen and preallocated
    heads.

    Args:
        config: The settings.
        layout: What `layout: auto` stands for in this stack and scenario.
    """

    def __init__(self, config: HeadsConfig) -> None:
        self.config = config
        assert config.layout != "auto", "build_stack() resolves it"
        self.layout: Layout = config.layout

    def foresee(self, model: TaughtModel, tasks: Sequence[Task]) -> None:
        """With `preallocate`, make the blocks of every task of the update at once."""
        if self.config.preallocate:
            for task in tasks:
                self.expand(model, task)

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the block of a task."""
        if isinstance(model.heads, nn.Identity):
            scale = self.config.cosine_scale if self.config.cosine else None
            model.heads = HeadBlocks(model.dim, self.layout, scale, self.config.preallocate)
        model.head.add(task)
        model.heads.to(model.device)

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Open the blocks that may train: all, or with `freeze_old_heads` those not yet taught."""
        heads = ctx.model.heads
        assert isinstance(heads, HeadBlocks), "expand() made them"
        frozen: set[str] = set()
        if self.config.freeze_old_heads or heads.layout == "per_task":
            frozen = {heads.block_name(task.id) for task in ctx.seen}
        frozen -= {heads.block_name(task.id) for task in ctx.tasks}
        for name, block in heads.blocks.items():
            block.requires_grad_(name not in frozen)

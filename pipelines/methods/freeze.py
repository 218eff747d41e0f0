"""Partial fine-tuning: the last blocks train, or the whole backbone for a warm-up only."""

from __future__ import annotations

from torch import nn

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.blocks import find_blocks
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.isolation import FreezeConfig
from ratchet.pipelines.types import Task


class Freeze(Method):
    """Decides which part of the backbone trains; see `FreezeConfig`.

    Source: the warm-up is the one of Zheng 2023, arXiv:2312.07887: the backbone trains during the
    first epochs of the first task of the lineage and never again.
    """

    def __init__(self, config: FreezeConfig) -> None:
        self.config = config

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Check the depth once; with no block open the base itself never changes.

        Raises:
            MethodError: More blocks are to train than the backbone has.
        """
        if self.config.warmup_epochs is not None:
            return
        if self.config.num_blocks > model.num_layers:
            raise MethodError(
                f"methods.freeze.num_blocks: {self.config.num_blocks} blocks cannot train, "
                f"{model.name} has {model.num_layers}; use a number up to that"
            )
        if self.config.num_blocks == 0:
            model.keep_base()

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Open what may train in this epoch."""
        backbone = ctx.model.backbone
        if self.config.warmup_epochs is not None:
            backbone.requires_grad_(ctx.is_first and ctx.epoch < self.config.warmup_epochs)
            return
        backbone.requires_grad_(False)
        if self.config.num_blocks:
            for block in blocks_of(backbone, ctx.model.num_layers)[-self.config.num_blocks :]:
                block.requires_grad_(True)


def blocks_of(backbone: nn.Module, num_layers: int) -> nn.ModuleList:
    """The list of transformer blocks of a backbone, first to last.

    Raises:
        MethodError: The architecture keeps its blocks some other way.
    """
    blocks = find_blocks(backbone, num_layers)
    if blocks is not None:
        return blocks
    raise MethodError(
        f"methods.freeze: {type(backbone).__name__} has no list of {num_layers} blocks; "
        "use lora or full fine-tuning with this architecture"
    )

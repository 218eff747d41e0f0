"""Mixture of experts: every task brings experts, under a gate that grows with them."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.experts import ExpertBlocks
from ratchet.pipelines.models.sublayers import sublayers_of
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.growth import ExpertsConfig
from ratchet.pipelines.types import Batch, Output, Task


class Experts(Method):
    """New bottleneck experts a task beside every feed-forward part; see `ExpertsConfig`.

    The base, old experts and their gate rows are frozen. A new expert answers zero at first, but
    takes its share of the gate from the old ones at once.

    Sources: Shazeer 2017, arXiv:1701.06538, for the gate (a softmax over the `top_k` largest
    logits) and the balance term (the squared coefficient of variation of the summed gates);
    Aljundi 2017, arXiv:1611.06194, for growth. Deviations: no noise on the gate's logits, the
    experts stand beside the feed-forward part of the base and not in its place, and the balance is
    a mean over blocks, of each worker's own rows.
    """

    def __init__(self, config: ExpertsConfig) -> None:
        self.config = config

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the experts of a task to every block.

        Raises:
            MethodError: The architecture's feed-forward parts are not known.
        """
        if "experts" not in model.parts:
            backbone = model.backbone
            assert isinstance(backbone, PreTrainedModel), "only one method owns the structure"
            blocks = sublayers_of(backbone, "experts")
            model.keep_base()
            model.parts["experts"] = ExpertBlocks(
                backbone.base_model, blocks, model.dim, self.config.top_k
            ).train(model.training)
        experts = experts_of(model)
        experts.grow(task.id, self.config.experts_per_task, self.config.bottleneck)
        experts.to(model.device)

    def begin_task(self, ctx: TaskContext) -> None:
        """Open the new experts before other methods take copies, which share what is frozen."""
        self.begin_epoch(ctx)

    def begin_epoch(self, ctx: TaskContext) -> None:
        """The experts of this stage train, and no others."""
        experts_of(ctx.model).open([task.id for task in ctx.tasks])

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The balance term: how unevenly the batch's tokens are spread over the experts."""
        found = experts_of(ctx.model).take_imbalance()
        if found is None or self.config.balance == 0 or not found.requires_grad:
            return None
        return self.config.balance * found

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Drop what further forward passes of the step left: it must not be copied or saved."""
        experts_of(ctx.model).forget()


def experts_of(model: TaughtModel) -> ExpertBlocks:
    """The experts of a model that has them."""
    experts = model.parts["experts"]
    assert isinstance(experts, ExpertBlocks), "expand() made them"
    return experts

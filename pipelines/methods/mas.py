"""Memory aware synapses: weights are held by how strongly they move the model's answers."""

from __future__ import annotations

from torch import Tensor

from ratchet.pipelines.methods.base import MethodState, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.importance.mean import mean_magnitudes
from ratchet.pipelines.methods.penalty import QuadraticPenalty
from ratchet.pipelines.models.heads import loss_mask
from ratchet.pipelines.spec.methods.regularization import MasConfig
from ratchet.pipelines.types import Batch, Output


class Mas(StrengthMethod):
    """strength / 2 * sum_i Omega_i (theta_i - anchor_i)^2, its gradient added in closed form.

    Omega is the mean over examples of |d ||f(x)||^2 / d theta_i|, per example, in eval mode, over
    the stage's training rows; their labels are not looked at. f(x) are the logits, unmasked, of the
    classes that compete in the row's loss: those of all tasks seen, or with a head a task the
    task's own. For a language model ||f(x)||^2 is the mean over the learned tokens of the squared
    norm of each one's logits, so that every row counts once whatever its length.

    Source: Aljundi 2018, arXiv:1711.09601. Deviations: the magnitude is taken of each example's
    gradient, as the paper says, not of a batch's mean, as its code does; strength / 2, as in EWC;
    `decay` < 1 lets old importances fade as in online EWC.
    """

    def __init__(self, config: MasConfig) -> None:
        super().__init__(config)
        self.config = config
        self.penalty = QuadraticPenalty()

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Add strength * Omega * (theta - anchor) to the gradients."""
        self.penalty.add_gradient(ctx.model.trainable(), self.strength)

    def end_task(self, ctx: TaskContext) -> None:
        """Measure how the answers depend on what was trained, and move the anchor."""
        if self.strength == 0:
            return

        def objective(batch: Batch, output: Output) -> Tensor:
            return squared_answers(ctx, batch, output)

        importance = mean_magnitudes(ctx, objective, power=1, max_examples=self.config.max_examples)
        self.penalty.merge(importance, ctx.model.trainable(), decay=self.config.decay)

    def state_dict(self) -> MethodState:
        """Importances and anchors by parameter name."""
        return MethodState(tensors=self.penalty.state_dict())

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.penalty.load_state_dict(state.tensors)


def squared_answers(ctx: TaskContext, batch: Batch, output: Output) -> Tensor:
    """||f(x)||^2 of each row, [rows]; see `Mas` for what f is."""
    if "completion_mask" in batch.inputs:
        learned = batch.inputs["completion_mask"][:, 1:]  # the logits before a token are for it
        squares = output.logits[:, :-1].square().sum(dim=-1)
        return (squares * learned).sum(dim=1) / learned.sum(dim=1).clamp(min=1)
    head = ctx.model.head
    mask = loss_mask(head, ctx.known_task_ids, batch.task_ids)
    if mask is None:  # future classes may compete already, but no row is given one
        mask = head.mask(head.classes_of(ctx.known_task_ids), output.logits.device)[None]
    return output.logits.masked_fill(mask.isinf(), 0.0).square().sum(dim=-1)

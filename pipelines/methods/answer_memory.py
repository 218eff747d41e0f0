# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""A memory of rows and of the answers that the model gave to them when they were seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ratchet.pipelines.methods.base import MemoryRow
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.memory import Memory
from ratchet.pipelines.types import Batch


class AnswerMemory(Memory):
    """A reservoir that fills while a task is learned, row by row with the logits given to it.

    A row that is seen in several epochs is offered in each of them, with its logits of then.

    Args:
        capacity: Rows at most.

    Attributes:
        answers: The logits of each row over the classes there were then, [classes], float32.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, "reservoir")
        self.answers: list[Tensor] = []

    def watch(self, ctx: TaskContext, batch: Batch, logits: Tensor) -> None:
        """Offer the rows of a batch of the stage, with their logits over all classes.

        Args:
            ctx: The context of the stage.
            batch: Rows of the stage's training split.
            logits: [rows, classes].
        """
        index, targets, task_ids = (t.cpu() for t in (batch.rows, batch.targets, batch.task_ids))
        logits = logits.detach().float().cpu()
        for place, item in self._admit(ctx, index, targets, task_ids).items():
            self.answers[place : place + 1] = [logits[item].clone()]
        self.num_seen += len(batch)

    def recall(self, rows: list[MemoryRow], num_seen: int, answers: list[Tensor]) -> None:
        """Put back what was remembered."""
        self.restore(rows, num_seen)
        self.answers = list(answers)

    def _keep(self, places: list[int]) -> None:
        super()._keep(places)
        self.answers = [self.answers[place] for place in places]


def side_by_side(answers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits over different numbers of classes as one tensor: [rows, widest], and [rows] of each.

    What a row lacks is 0.
    """
    if not answers:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
    return (
        pad_sequence(list(answers), batch_first=True),
        torch.tensor([len(answer) for answer in answers]),
    )


def taken_apart(logits: Tensor, counts: Tensor) -> list[Tensor]:
    """What `side_by_side` was given, as copies."""
    return [row[:count].clone() for row, count in zip(logits, counts.tolist(), strict=True)]

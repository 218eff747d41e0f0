# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Progressive networks: a narrow column a task beside the frozen base and all earlier columns."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.column import BASE, Column
from ratchet.pipelines.models.task_columns import TaskColumns
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.growth import ColumnsConfig
from ratchet.pipelines.types import Task


class Columns(Method):
    """Each task learns a column; what came before is read sideways and never changes.

    Source: Rusu 2016, arXiv:1606.04671. Deviations: the first column is the pretrained base; a
    column's answer is added to the base's, so that a task starts from the base's features, not from
    nothing; it also adds the earlier columns' answers, each times a share that learns and starts at
    one over their number, so that what they know reaches a task of few examples at once; all other
    laterals from earlier columns start at zero; with `max_laterals` those that add least (mean norm
    over the task's tokens) are pruned place by place when the task ends, their mean is kept as a
    constant, and growth becomes linear in the number of tasks. Laterals from the base always stay.
    """

    settles_weights = True

    def __init__(self, config: ColumnsConfig) -> None:
        self.config = config

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the column of a task.

        Raises:
            MethodError: The architecture does not give the states of every layer.
        """
        if "columns" not in model.parts:
            model.keep_base()
            model.parts["columns"] = TaskColumns.beside(
                model, self.config.width, self.config.lateral_width
            )
        columns = columns_of(model)
        columns.add(task.id)
        columns.to(model.device)

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Let the column of a task answer."""
        columns_of(model).task_id = task_id

    def begin_epoch(self, ctx: TaskContext) -> None:
        """The column of the task trains, and no other."""
        columns_of(ctx.model).open([task.id for task in ctx.tasks])

    def end_task(self, ctx: TaskContext) -> None:
        """Prune the laterals from earlier columns that were used least."""
        limit = self.config.max_laterals
        columns = columns_of(ctx.model)
        column = columns.column(ctx.task.id)
        if limit is None or len(column.sources - {BASE}) <= limit:
            return
        use = _measured(ctx, columns, column)
        for place, source in use.least_used(limit):
            column.prune(place, source, use.mean(place, source))


class LateralUse:
    """How much each lateral of a column adds, over real tokens.

    Args:
        column: Whose laterals are measured.
    """

    def __init__(self, column: Column) -> None:
        places = column.places.items()
        self._read = {place: sorted(junction.laterals) for place, junction in places}
        self._norms, self._sums = {}, {}
        for place, junction in places:
            for source in self._read[place]:
                self._norms[place, source] = torch.zeros(1, dtype=torch.float64)
                self._sums[place, source] = torch.zeros(len(junction.shift), dtype=torch.float64)
        self._num_tokens = torch.zeros(1, dtype=torch.float64)

    def add(self, place: str, source: str, contribution: Tensor, mask: Tensor) -> None:
        """Count a lateral's contribution [rows, seq, width] where the mask [rows, seq] is 1."""
        real = contribution[mask.bool()].double().cpu()
        self._norms[place, source] += real.norm(dim=-1).sum()
        self._sums[place, source] += real.sum(dim=0)

    def count(self, mask: Tensor) -> None:
        """Count the tokens of a batch."""
        self._num_tokens += float(mask.sum())

    def tensors(self) -> list[Tensor]:
        """The sums, to be added up over workers in place."""
        return [*self._norms.values(), *self._sums.values(), self._num_tokens]

    def mean(self, place: str, source: str) -> Tensor:
        """The mean contribution of a lateral, [width of the place]."""
        return self._sums[place, source] / self._num_tokens.clamp(min=1)

    def least_used(self, limit: int) -> Iterator[tuple[str, str]]:
        """Place and source of the laterals from earlier columns beyond the `limit` most used."""
        for place, read in self._read.items():
            earlier = [source for source in read if source != BASE]
            ranked = sorted(earlier, key=lambda source: -self._norms[place, source].item())
            for source in ranked[limit:]:
                yield place, source


def _measured(ctx: TaskContext, columns: TaskColumns, column: Column) -> LateralUse:
    """One pass over the task's rows in eval mode, summed over the workers."""
    use = LateralUse(column)
    was_training = ctx.model.training
    ctx.model.eval()
    try:
        for batch in ctx.batches():
            if len(batch) == 0:
                continue
            mask = batch.inputs["attention_mask"]
            use.count(mask)
            with _watched(columns, use, mask), torch.no_grad(), ctx.autocast():
                ctx.model.features(batch.inputs)
    finally:
        ctx.model.train(was_training)
    ctx.workers.sum(use.tensors())
    return use


@contextmanager
def _watched(columns: TaskColumns, use: LateralUse, mask: Tensor) -> Generator[None, None, None]:
    def watch(place: str, source: str, contribution: Tensor) -> None:
        use.add(place, source, contribution, mask)

    columns.watch = watch
    try:
        yield
    finally:
        columns.watch = None


def columns_of(model: TaughtModel) -> TaskColumns:
    """The columns of a model that has them."""
    columns = model.parts["columns"]
    assert isinstance(columns, TaskColumns), "expand() made them"
    return columns

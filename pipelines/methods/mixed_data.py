# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""General text in every batch, so that the pretrained ability stays in use."""

from __future__ import annotations

import torch
from torch import Tensor

from ratchet.pipelines.data.recipes import LanguageData
from ratchet.pipelines.data.sources import read_rows
from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.whole_rows import WholeRows
from ratchet.pipelines.spec.methods.replay import MixedDataConfig
from ratchet.pipelines.spec.update_spec import ColumnsSpec
from ratchet.pipelines.types import Batch

FIELD = "methods.mixed_data.sources"


class MixedData(Method):
    """Appends blocks of general text to every batch; see `MixedDataConfig`.

    The sources are packed into blocks as the rows of raw-text tasks are, and tokenized once an
    update by each worker. Each step draws blocks anew: a source with probability proportional to
    size ** (1 / temperature), its size in blocks, then any of its blocks. Nothing of it is kept in
    a version: the next update reads the sources again.

    Source of the temperature: Conneau 2020, arXiv:1911.02116, there over languages.
    """

    def __init__(self, config: MixedDataConfig) -> None:
        self.config = config
        self._whole_rows = WholeRows()
        self._sources: list[list[Tensor]] = []
        self._chances = torch.zeros(0)

    def begin_task(self, ctx: TaskContext) -> None:
        """Read the sources before the first task; owe nothing.

        Raises:
            DataError: A source cannot be read, or holds no text.
        """
        self._whole_rows.rest = 0.0
        self._read(ctx)

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Append blocks so that they make up `share` of the batches."""
        count = self._whole_rows.take(len(batch) * self.config.share / (1 - self.config.share))
        if count == 0:
            return batch
        self._read(ctx)  # after an interruption inside a task nothing is read yet
        drawn = torch.multinomial(self._chances, count, True, generator=ctx.generator)
        blocks = []
        for number in drawn.tolist():
            source = self._sources[number]
            place = torch.randint(len(source), (), generator=ctx.generator)
            blocks.append(source[int(place)])
        targets = torch.full((count,), ctx.task.class_ids[0])
        rows = ctx.batch_of(blocks, targets, torch.full((count,), ctx.task.id))
        return batch.extended("mixed_data", rows)

    def _read(self, ctx: TaskContext) -> None:
        if self._sources or self.config.share == 0:
            return
        language = LanguageData(ctx.model.tokenizer, ctx.max_length, "text")
        sources, problems = [], []
        for uri in self.config.sources:
            rows, wrong = read_rows(uri, ColumnsSpec(), language=language)
            problems += wrong
            if not wrong and len(rows) == 0:
                problems.append(Problem(uri, "there is no text in it", hint="Remove it"))
            sources.append(ctx.tokenize(list(rows.texts)))
        if problems:
            raise DataError(
                [Problem(FIELD, f"{p.where}: {p.message}", p.value, p.hint) for p in problems]
            )
        self._sources = sources
        sizes = torch.tensor([float(len(source)) for source in sources])
        weights = sizes ** (1 / self.config.temperature)
        self._chances = weights / weights.sum()

    def state_dict(self) -> MethodState:
        """The part of a row still owed."""
        return MethodState(values={"owed": self._whole_rows.rest})

    def load_state_dict(self, state: MethodState) -> None:
        """Put it back."""
        self._whole_rows.rest = float(state.values["owed"])

    def end_task(self, ctx: TaskContext) -> None:
        """Owe nothing."""
        self._whole_rows.rest = 0.0

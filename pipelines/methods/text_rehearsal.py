# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Pseudo-rehearsal for language models: the model writes examples of old tasks itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from ratchet.pipelines.data.segments import (
    SEPARATOR,
    first_tokens,
    is_raw,
    join_segments,
    plain_tokens,
)
from ratchet.pipelines.methods.base import MemoryRow, Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.rehearsal import share_of
from ratchet.pipelines.methods.whole_rows import WholeRows
from ratchet.pipelines.models.causal_lm import CausalLM
from ratchet.pipelines.spec.methods.replay import GenerativeConfig
from ratchet.pipelines.types import Batch, Task

_log = logging.getLogger(__name__)

ANSWER = " [answer] "
"""Stands in a written example where the completion begins."""
TURN_END = "[end]"
"""Stands for the end-of-text token where a chat template writes it inside a text."""
ROWS_AT_ONCE = 64
"""Texts that are written side by side."""


class TextRehearsal(Method):
    """Learns to write its examples, and rehearses those that it writes; see `GenerativeConfig`.

    Every row is also learned in the language form, the task's marker "[name]" and then prompt,
    `ANSWER`, completion and the end of the text (or the raw text), as a row of its own with weight
    `language_weight` in the weighted mean of the batch. Before a task of N rows the workers write
    round(ratio * N) examples, each its share, in equal parts for the old tasks. A text that cannot
    be taken apart into prompt and completion is dropped and counted. The rest is spread evenly over
    the batches of an epoch, in both forms. What was written is forgotten when the task ends.

    Source: Sun 2020 (LAMOL), arXiv:1909.03329. Deviations: the marker is text in the model's own
    tokens, because a new token would change the shape of the embeddings, and with it what a
    parent version, an adapter or a server can take; both forms share one weighted mean; examples
    are sampled with top-k and a temperature throughout, the first token too.

    Attributes:
        examples: What this worker wrote for the present task.
        raw_tasks: Whether the rows of each task taught are raw text, by task id.
        num_written: Texts written for the present task, over all workers.
        num_dropped: Of these, how many could not be taken apart.
    """

    def __init__(self, config: GenerativeConfig) -> None:
        self.config = config
        self.examples: list[MemoryRow] = []
        self.raw_tasks: dict[int, bool] = {}
        self.num_written = 0
        self.num_dropped = 0
        self._rate = 0.0  # examples for a new row
        self._next = 0
        self._whole_rows = WholeRows()

    def begin_task(self, ctx: TaskContext) -> None:
        """Write examples of the old tasks, and say how many could not be used."""
        self.examples, self.num_written, self.num_dropped = [], 0, 0
        self._rate, self._next, self._whole_rows.rest = 0.0, 0, 0.0
        known = [task for task in ctx.seen if task.id in self.raw_tasks]
        if self.config.ratio == 0 or not known:
            return
        num_rows = sum(ctx.workers.gather(sum(len(batch) for batch in ctx.batches())))
        wanted = round(self.config.ratio * num_rows)
        self._write(ctx, known, wanted)
        kept = sum(ctx.workers.gather(len(self.examples)))
        self.num_written, self.num_dropped = wanted, wanted - kept
        self._rate = kept / num_rows
        if self.num_dropped:
            _log.warning(
                "generative: %d of %d examples written for task %r had no answer and were dropped",
                self.num_dropped,
                wanted,
                ctx.task.name,
            )

    def _write(self, ctx: TaskContext, tasks: Sequence[Task], wanted: int) -> None:
        """Write this worker's share of the examples, in random order."""
        workers = ctx.workers
        # Numbers of its own: those of the training stay what they were.
        numbers = torch.Generator().manual_seed(ctx.generator.initial_seed() + 1)
        for place, task in enumerate(tasks):
            of_task = share_of(wanted, place, len(tasks))
            mine = share_of(
                of_task, (workers.rank + place) % workers.world_size, workers.world_size
            )
            for first in range(0, mine, ROWS_AT_ONCE):
                seed = int(torch.randint(2**62, (), generator=numbers))
                for text in self._texts(ctx, task, min(ROWS_AT_ONCE, mine - first), seed):
                    row = parsed(text, self.raw_tasks[task.id])
                    if row is not None:
                        self.examples.append(MemoryRow(row, task.id, task.class_ids[0]))
        order = torch.randperm(len(self.examples), generator=numbers)
        self.examples = [self.examples[place] for place in order.tolist()]

    def _texts(self, ctx: TaskContext, task: Task, count: int, seed: int) -> list[str]:
        """Texts that the model writes after a task's marker, in eval mode."""
        model = ctx.model
        assert isinstance(model, CausalLM), "classifiers rehearse features"
        tokenizer = model.tokenizer
        start = first_tokens(tokenizer) + plain_tokens([marker(task)], tokenizer)[0]
        devices = [model.device] if model.device.type == "cuda" else []
        was_training = model.training
        model.eval()
        with torch.random.fork_rng(devices=devices), ctx.autocast():
            torch.manual_seed(seed)
            found = model.generate(
                [torch.tensor(start)] * count,
                max(1, ctx.max_length - len(start)),
                do_sample=True,
                top_k=self.config.top_k,
                temperature=self.config.temperature,
            )
        model.train(was_training)
        texts = [str(tokenizer.decode(row, clean_up_tokenization_spaces=False)) for row in found]
        return [text.replace(TURN_END, str(tokenizer.eos_token)) for text in texts]

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Append written examples in turn, and the new rows and these in the language form."""
        if self.config.ratio == 0:
            return batch
        new = batch.parts["new"]
        names = {task.id: task for task in (*ctx.seen, *ctx.tasks)}
        ids = batch.task_ids[new].tolist()
        written = self._turn(new.stop - new.start)
        pairs = [*zip(ids, ctx.texts(batch.rows[new].tolist()), strict=True)]
        pairs += [(row.task_id, row.text) for row in written]
        if written:
            batch = batch.extended("generative", self._rows(ctx, written))
        if self.config.language_weight == 0:
            return batch
        end = str(ctx.model.tokenizer.eos_token)
        forms = [
            MemoryRow(
                language_form(names[task_id], text, end), task_id, names[task_id].class_ids[0]
            )
            for task_id, text in pairs
        ]
        rows = self._rows(ctx, forms)
        rows.weights.fill_(self.config.language_weight)
        return batch.extended("language", rows)

    def _turn(self, num_new: int) -> list[MemoryRow]:
        """The examples whose turn it is: over an epoch each comes once."""
        if not self.examples:
            return []
        wanted = self._whole_rows.take(num_new * self._rate)
        places = [(self._next + i) % len(self.examples) for i in range(wanted)]
        self._next = (self._next + wanted) % len(self.examples)
        return [self.examples[place] for place in places]

    @staticmethod
    def _rows(ctx: TaskContext, rows: Sequence[MemoryRow]) -> Batch:
        return ctx.batch_of(
            ctx.tokenize([row.text for row in rows]),
            torch.tensor([row.class_id for row in rows]),
            torch.tensor([row.task_id for row in rows]),
        )

    def end_task(self, ctx: TaskContext) -> None:
        """Note which tasks are raw text; forget what was written."""
        self.examples, self._next, self._whole_rows.rest = [], 0, 0.0
        if self.config.ratio == 0:
            return
        mine: dict[int, bool] = {}
        for batch in ctx.batches():
            for row, task_id in zip(batch.rows.tolist(), batch.task_ids.tolist(), strict=True):
                if task_id not in mine:
                    mine[task_id] = is_raw(ctx.texts([row])[0])
        for found in ctx.workers.gather(mine):
            self.raw_tasks |= found

    def state_dict(self) -> MethodState:
        """This worker's examples and whose turn it is; which tasks are raw text."""
        values = {
            "raw_tasks": {str(task_id): raw for task_id, raw in sorted(self.raw_tasks.items())},
            "num_written": self.num_written,
            "num_dropped": self.num_dropped,
            "rate": self._rate,
            "next": self._next,
            "owed": self._whole_rows.rest,
        }
        return MethodState(values=values, rows=list(self.examples))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.raw_tasks = {int(key): raw for key, raw in state.values["raw_tasks"].items()}
        self.num_written = int(state.values["num_written"])
        self.num_dropped = int(state.values["num_dropped"])
        self._rate = float(state.values["rate"])
        self._next = int(state.values["next"])
        self._whole_rows.rest = float(state.values["owed"])
        self.examples = list(state.rows)


def marker(task: Task) -> str:
    """What the written examples of a task start with."""
    return f"[{task.name}]"


def language_form(task: Task, text: str, end: str) -> str:
    """A row as the model is to write it, after the task's marker.

    Args:
        task: The row's task.
        text: The row.
        end: The end-of-text token; inside a text it would end what is written.
    """
    body = text.replace(SEPARATOR, ANSWER).replace(end, TURN_END)
    return join_segments([marker(task), body])


def parsed(text: str, raw: bool) -> str | None:
    """The row that a written text stands for, or None where it cannot be taken apart.

    Args:
        text: What was written after the marker.
        raw: Whether the task's rows are raw text.
    """
    if SEPARATOR in text:
        return None
    if raw:
        return text if text.strip() else None
    segments = text.split(ANSWER)
    paired = len(segments) % 2 == 0
    return join_segments(segments) if paired and all(s.strip() for s in segments) else None

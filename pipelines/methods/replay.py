"""Replay: a bounded memory of past examples, mixed into the batches of new tasks."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.method_config import ReplayConfig
from pipelines.methods.base import Method, MethodState
from pipelines.methods.memory import Memory
from pipelines.types import Batch, TaskContext

ROUNDING = 1e-9


class Replay(Method):
    """Rehearses a bounded memory; see `ReplayConfig`.

    The memory is sharded: each worker keeps its share of the capacity, chosen from its shard of the
    data, and draws from it. A task enters the memory at its end, each of its rows offered once, so
    a batch never rehearses the task that it is learning.

    Sources: Vitter 1985 (reservoir), Rebuffi 2017, arXiv:1611.07725 (herding).
    """

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        self.memory = Memory(config.capacity, config.selection)
        self._owed = 0.0  # the part of a row by which the steps so far fell short of the fraction

    def begin_task(self, ctx: TaskContext) -> None:
        """Owe nothing."""
        self._owed = 0.0

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Append remembered rows so that they make up `fraction` of the batches.

        Parts of a row are carried to the next step: rounded away, they would skew the fraction,
        down to nothing with few rows a worker.
        """
        if ctx.step % self.config.every_steps or len(self.memory) == 0:
            return batch
        self._owed += len(batch) * self.config.fraction / (1 - self.config.fraction)
        wanted = int(self._owed + ROUNDING)
        self._owed = max(0.0, self._owed - wanted)
        if wanted == 0:
            return batch
        chosen = self.memory.draw(min(wanted, len(self.memory)), ctx.generator)
        return batch.extended("replay", self.memory.batch(chosen, ctx))

    def end_task(self, ctx: TaskContext) -> None:
        """Offer every row of this worker's shard to this worker's share of the memory, once."""
        rank, world_size = ctx.workers.rank, ctx.workers.world_size
        capacity = share_of(self.config.capacity, rank, world_size)
        self.memory.resize(capacity, ctx.generator)
        if capacity > 0:
            self.memory.offer(ctx)

    def state_dict(self) -> MethodState:
        """This worker's rows, how many were offered, and the part of a row still owed."""
        values = {"num_seen": self.memory.num_seen, "owed": self._owed}
        return MethodState(values=values, rows=list(self.memory.rows))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.memory.restore(state.rows, int(state.values["num_seen"]))
        self._owed = float(state.values["owed"])

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """The workers' rows side by side: the sum of the shares is the capacity."""
        seen = sum(int(state.values["num_seen"]) for state in states)
        rows = [row for state in states for row in state.rows]
        return MethodState(values={"num_seen": seen, "owed": 0.0}, rows=rows)

    def shard_state(self, state: MethodState, rank: int, world_size: int) -> MethodState:
        """Every world_size-th row; the count is shared out as the rows are."""
        seen = share_of(int(state.values["num_seen"]), rank, world_size)
        return MethodState({}, {"num_seen": seen, "owed": 0.0}, state.rows[rank::world_size])


def share_of(total: int, rank: int, world_size: int) -> int:
    """A worker's part of a total; the parts sum to it."""
    return total // world_size + (rank < total % world_size)

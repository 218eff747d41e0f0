"""What methods share that remember examples: a sharded memory, filled when a task ends."""

from __future__ import annotations

from collections.abc import Sequence

from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.memory import Memory


class Rehearsal(Method):
    """Keeps a memory: each worker its share of the capacity, chosen from its shard of the data.

    A task enters the memory at its end, each of its rows offered once.

    Args:
        memory: An empty memory with the capacity of all workers together.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.capacity = memory.capacity

    def take_share(self, ctx: TaskContext) -> None:
        """Give this worker's memory its share of the capacity."""
        share = share_of(self.capacity, ctx.workers.rank, ctx.workers.world_size)
        self.memory.resize(share, ctx.generator)

    def end_task(self, ctx: TaskContext) -> None:
        """Offer every row of this worker's shard to this worker's share of the memory, once."""
        self.take_share(ctx)
        if self.memory.capacity > 0 or ctx.model.is_sharded:  # all look at their rows together
            self.memory.offer(ctx)

    def state_dict(self) -> MethodState:
        """This worker's rows, and how many were offered."""
        return MethodState(values={"num_seen": self.memory.num_seen}, rows=list(self.memory.rows))

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.memory.restore(state.rows, int(state.values["num_seen"]))

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """The workers' rows side by side: the sum of the shares is the capacity."""
        seen = sum(int(state.values["num_seen"]) for state in states)
        rows = [row for state in states for row in state.rows]
        return MethodState(values={"num_seen": seen}, rows=rows)

    def shard_state(self, state: MethodState, rank: int, world_size: int) -> MethodState:
        """Every world_size-th row; the count is shared out as the rows are."""
        seen = share_of(int(state.values["num_seen"]), rank, world_size)
        return MethodState({}, {"num_seen": seen}, state.rows[rank::world_size])


def share_of(total: int, rank: int, world_size: int) -> int:
    """A worker's part of a total; the parts sum to it."""
    return total // world_size + (rank < total % world_size)

"""Replay: a bounded memory of past examples, mixed into the batches of new tasks."""

from __future__ import annotations

from ratchet.pipelines.methods.base import MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.memory import Memory
from ratchet.pipelines.methods.rehearsal import Rehearsal
from ratchet.pipelines.spec.methods.replay import ReplayConfig
from ratchet.pipelines.types import Batch

ROUNDING = 1e-9


class Replay(Rehearsal):
    """Rehearses a bounded memory; see `ReplayConfig`.

    Each worker draws from its own shard of the memory. A task enters it at its end, so a batch
    never rehearses the task that it is learning.

    Sources: Vitter 1985 (reservoir), Rebuffi 2017, arXiv:1611.07725 (herding).
    """

    def __init__(self, config: ReplayConfig) -> None:
        super().__init__(Memory(config.capacity, config.selection))
        self.config = config
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

    def state_dict(self) -> MethodState:
        """This worker's rows, how many were offered, and the part of a row still owed."""
        state = super().state_dict()
        state.values["owed"] = self._owed
        return state

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back; in a version nothing is owed."""
        super().load_state_dict(state)
        self._owed = float(state.values.get("owed", 0.0))

# pyright: reportUnknownVariableType=false
"""The one abstraction: a method against forgetting, and a stack of them.

The training loop knows one object with these hooks, the stack, and no method by name. Override only
what the idea needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods import StrengthConfig
from ratchet.pipelines.types import Batch, Output, Task


@dataclass(frozen=True)
class MemoryRow:
    """One remembered example, as it is written to a version."""

    text: str
    task_id: int
    class_id: int


@dataclass
class MethodState:
    """What a method must not lose: tensors, plain JSON values, and remembered examples."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    rows: list[MemoryRow] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors and of the remembered text."""
        tensors = sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())
        return tensors + sum(len(row.text.encode()) + 16 for row in self.rows)


class Method:
    """An idea against forgetting. Every hook has a default that does nothing.

    Class attributes:
        trains: False for methods that learn without gradient steps (one pass, no optimizer).
        exact: True for methods whose statistics need float32 whatever the precision of the rest.
        settles_weights: True for methods whose `end_task` changes weights that are kept. Theirs
            comes before that of all others in a stack.
    """

    trains = True
    exact = False
    settles_weights = False

    def foresee(self, model: TaughtModel, tasks: Sequence[Task]) -> None:
        """Be told every task of the update before the first is taught."""

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the structure of a task. Replayed for past tasks on restore, without data."""

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Choose the parameters of a task. Serving calls it too."""

    def begin_task(self, ctx: TaskContext) -> None:
        """Take snapshots and decide what trains, before the first batch of a stage."""

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Change what trains at an epoch's start; the loop looks again at what is trainable."""

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Append named, weighted rows, so that one forward covers all."""
        return batch

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """A term added to the task loss: a mean over the rows it concerns."""
        return None

    def watch_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Look at `.grad` after the average over workers and before any method edits it."""

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Change `.grad` after the average over workers and before the clip."""

    def correct_weights(self, ctx: TaskContext) -> None:
        """Look at the weights that a step just left, or change them, on every worker.

        Also on one that had no rows; those that change them own structure and so come first.
        """

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Look at what an optimizer step just did, where a worker had rows."""

    def end_task(self, ctx: TaskContext) -> None:
        """Keep what later tasks need: importances, memory, statistics.

        The weights are those that are kept, unless the method itself `settles_weights`.
        """

    def state_dict(self) -> MethodState:
        """Everything needed to go on, of this worker."""
        return MethodState()

    def load_state_dict(self, state: MethodState) -> None:
        """Put back what `state_dict` gave."""

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """One state for a version out of every worker's; by default all are equal."""
        return states[0]

    def shard_state(self, state: MethodState, rank: int, world_size: int) -> MethodState:
        """This worker's part of a merged state; by default all of it."""
        return state

    def parameter_of(self, name: str) -> str | None:
        """The parameter that a tensor of the state has one number for each number of, if any.

        Where parameters are sharded, such tensors are sharded like them.
        """
        return None


class StrengthMethod(Method):
    """A method whose term is multiplied by a strength, which may be set anew for each task.

    Args:
        config: Its settings; where they leave the strength to a search, that begins high.

    Attributes:
        strength: What the term is multiplied by in the present task; 0 switches the method off.
    """

    def __init__(self, config: StrengthConfig) -> None:
        self.strength = config.first_strength


class MethodStack:
    """Methods in order of execution, asked as one.

    It has every hook of a method and is none itself: it has no state of its own, but the states of
    its methods by type. All hooks go through the methods in the stack's order, and `end_task` goes
    through those first that change weights there: what the others keep (importances, anchors,
    memories, statistics) is then of the weights that are kept.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.methods = dict(methods)

    def set_strengths(self, strengths: Mapping[str, float]) -> None:
        """Set the strength of some methods, by type, for what is trained from now on."""
        for kind, strength in strengths.items():
            method = self.methods[kind]
            assert isinstance(method, StrengthMethod), f"{kind} has no strength"
            method.strength = strength

    @property
    def learns_by_gradient(self) -> bool:
        """Whether any gradient step is taken at all."""
        return all(method.trains for method in self.methods.values())

    @property
    def needs_float32(self) -> bool:
        """Whether some method is exact in float32 only."""
        return any(method.exact for method in self.methods.values())

    def foresee(self, model: TaughtModel, tasks: Sequence[Task]) -> None:
        """Every method is told, in order."""
        for method in self.methods.values():
            method.foresee(model, tasks)

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Every method adds its structure, in order."""
        for method in self.methods.values():
            method.expand(model, task)

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Every method chooses its parameters, in order."""
        for method in self.methods.values():
            method.activate(model, task_id)

    def begin_task(self, ctx: TaskContext) -> None:
        """Every method prepares, in order."""
        for method in self.methods.values():
            method.begin_task(ctx)

    def begin_epoch(self, ctx: TaskContext) -> None:
        """Every method looks at the epoch, in order."""
        for method in self.methods.values():
            method.begin_epoch(ctx)

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Each method appends to what the one before left."""
        for method in self.methods.values():
            batch = method.extend_batch(ctx, batch)
        return batch

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The sum of the methods' terms, or None when there is none."""
        total: Tensor | None = None
        for method in self.methods.values():
            term = method.loss(ctx, batch, output)
            if term is not None:
                total = term if total is None else total + term
        return total

    def watch_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Every method looks, in order."""
        for method in self.methods.values():
            method.watch_gradients(ctx, batch)

    def edit_gradients(self, ctx: TaskContext, batch: Batch) -> None:
        """Every method edits the gradients that the one before left."""
        for method in self.methods.values():
            method.edit_gradients(ctx, batch)

    def correct_weights(self, ctx: TaskContext) -> None:
        """Every method corrects what the one before left."""
        for method in self.methods.values():
            method.correct_weights(ctx)

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Every method looks at the step, in order."""
        for method in self.methods.values():
            method.after_step(ctx, batch, output)

    def end_task(self, ctx: TaskContext) -> None:
        """Weights are settled, then every other method keeps what it needs, each time in order."""
        for method in sorted(self.methods.values(), key=lambda one: not one.settles_weights):
            method.end_task(ctx)

    def state_dicts(self) -> dict[str, MethodState]:
        """The state of every method, by type."""
        return {name: method.state_dict() for name, method in self.methods.items()}

    def load_state_dicts(self, states: Mapping[str, MethodState]) -> None:
        """Put back the state of every method.

        Raises:
            VersionError: A state is missing or belongs to a method that is not in the stack.
        """
        if states.keys() != self.methods.keys():
            raise VersionError(
                f"saved method states are for {sorted(states)}, "
                f"and the stack has {sorted(self.methods)}"
            )
        for name, method in self.methods.items():
            method.load_state_dict(states[name])

"""All columns of a lineage beside its frozen base, and the hooks that let one of them answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.models.causal_lm import CausalLM
from ratchet.pipelines.models.column import BASE, Column, ColumnSize, Watch, column_size
from ratchet.pipelines.models.part import Part, task_part
from ratchet.pipelines.models.taught_model import TaughtModel

PROBE_TOKENS = 8


@dataclass(frozen=True)
class ColumnParameters:
    """How many numbers a task's column holds.

    Attributes:
        own: Its blocks and maps.
        laterals: Its laterals, by what they read: `base` or an earlier task's column.
    """

    own: int
    laterals: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return self.own + sum(self.laterals.values())


class TaskColumns(Part):
    """A column a task, hooked behind the base: the active column's answer is added to the base's.

    The base runs once, unchanged; then the columns that the active one reads, oldest first, without
    gradient; then the active one. The blocks are our own, not narrowed copies of the base's: they
    need nothing but hidden states, a mask and the direction of attention, so every architecture
    that gives its hidden states can be taken. Positions reach them through what the base's states
    carry.

    Attributes:
        watch: Told every lateral's contribution in the active column; see `Watch`.

    Args:
        size: The shape of a column.
        causal: Whether a token may look at earlier ones only.
    """

    def __init__(self, size: ColumnSize, causal: bool) -> None:
        super().__init__()
        self.size = size
        self.causal = causal
        self.watch: Watch | None = None

    @staticmethod
    def beside(model: TaughtModel, share: float, lateral_width: int | None) -> TaskColumns:
        """Tie columns into a model whose backbone stays as it is.

        Args:
            model: Its base never trains again.
            share: Share of the base's width that a column has.
            lateral_width: Width of the laterals, or None for that of the column.

        Raises:
            MethodError: The architecture does not give the states of every layer.
        """
        assert isinstance(model.backbone, PreTrainedModel), "only one method owns the structure"
        base = model.backbone.base_model
        _check(base, model)
        size = column_size(base.config, share, lateral_width)
        columns = TaskColumns(size, causal=isinstance(model, CausalLM))
        base.register_forward_pre_hook(columns._ask_for_states, with_kwargs=True)
        base.register_forward_hook(columns._answer, with_kwargs=True)
        if isinstance(model, CausalLM):
            model.uses_cache = False  # a column needs the whole text, not the base's keys of it
        return columns

    def add(self, task_id: int) -> None:
        """Add the column of a task, which reads the base and every column before it."""
        earlier = [_source(name) for name, _ in self.named_children()]
        self.add_module(task_part(task_id), Column(self.size, earlier).requires_grad_(False))

    def column(self, task_id: int) -> Column:
        """The column of a task."""
        column = self.get_submodule(task_part(task_id))
        assert isinstance(column, Column), "add() made it"
        return column

    def open(self, task_ids: Collection[int]) -> None:
        """Let the columns of some tasks train, and no other."""
        names = {task_part(task_id) for task_id in task_ids}
        for name, column in self.named_children():
            column.requires_grad_(name in names)
        self.train(self.training)

    def train(self, mode: bool = True) -> TaskColumns:
        """Set the mode; columns that are frozen always stay in eval mode."""
        super().train(mode)
        for column in self.children():
            if not any(parameter.requires_grad for parameter in column.parameters()):
                column.eval()
        return self

    def fit(self, names: Collection[str]) -> None:
        """Prune the laterals that saved weights do not have."""
        kept = {_lateral_of(name) for name in names}
        for task, column in self.named_children():
            assert isinstance(column, Column), "add() made it"
            for place, junction in column.places.items():
                for source in list(junction.laterals):
                    if (f"{task}.{place}", source) not in kept:
                        column.prune(place, source, torch.zeros_like(junction.shift))

    def read_by(self, task_id: int) -> list[int]:
        """The tasks whose columns must run before that of a task, directly or not, ascending."""
        needed: set[int] = set()
        waiting = [task_id]
        while waiting:
            found = {_task_of(source) for source in self.column(waiting.pop()).sources - {BASE}}
            waiting += found - needed
            needed |= found
        return sorted(needed)

    def parameter_counts(self) -> dict[int, ColumnParameters]:
        """How many numbers each task's column holds, by task id."""
        counts = {}
        for name, column in self.named_children():
            assert isinstance(column, Column), "add() made it"
            laterals = column.lateral_parameters()
            total = sum(parameter.numel() for parameter in column.parameters())
            counts[_task_of(name)] = ColumnParameters(total - sum(laterals.values()), laterals)
        return counts

    def _ask_for_states(
        self, _base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.silent or self.task_id is None:
            return None
        return args, {**kwargs, "output_hidden_states": True}

    def _answer(
        self, _base: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Add the active column's answer to the base's last hidden state."""
        if self.silent or self.task_id is None:
            return output
        embedded, *base_levels = [state.to(self._dtype) for state in output.hidden_states]
        allowed = self._allowed(kwargs.get("attention_mask"), embedded)
        sources = {BASE: base_levels}
        for task_id in self.read_by(self.task_id):
            with torch.no_grad():
                levels = self.column(task_id).levels(embedded, sources, allowed)
            sources[_source(task_part(task_id))] = levels
        answer = self.column(self.task_id).levels(embedded, sources, allowed, self.watch)[-1]
        last = output.last_hidden_state
        output.last_hidden_state = last + answer.to(last.dtype)
        output.hidden_states = (*output.hidden_states[:-1], output.last_hidden_state)
        return output

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _allowed(self, mask: Tensor | None, states: Tensor) -> Tensor:
        """Which positions each may look at, [rows, 1, seq, seq], bool; itself always."""
        rows, length, _ = states.shape
        if mask is None:
            mask = torch.ones(rows, length, device=states.device)
        if mask.shape != (rows, length):
            raise MethodError(
                f"columns need the whole text in each pass: got {length} tokens and a mask over "
                f"{list(mask.shape)}; call the model with use_cache=False"
            )
        allowed = mask.bool()[:, None, None, :].expand(rows, 1, length, length)
        if self.causal:
            allowed = allowed & torch.ones_like(allowed[0, 0]).tril()
        return allowed | torch.eye(length, dtype=torch.bool, device=states.device)


def _check(base: nn.Module, model: TaughtModel) -> None:
    """Refuse an architecture whose hidden states a column cannot read.

    A probe of a few tokens is the only reliable witness: configurations do not say it.
    """
    config: Any = base.config
    if getattr(config, "is_encoder_decoder", False):
        raise MethodError(_refusal(model, "it has an encoder and a decoder"))
    ids = torch.ones(1, PROBE_TOKENS, dtype=torch.long, device=model.device)
    was_training = base.training
    base.eval()
    try:
        with torch.no_grad():
            output = base(input_ids=ids, attention_mask=ids, output_hidden_states=True)
    finally:
        base.train(was_training)
    states = getattr(output, "hidden_states", None) or ()
    shapes = {tuple(state.shape) for state in states}
    if len(states) != model.num_layers + 1 or shapes != {(1, PROBE_TOKENS, model.dim)}:
        found = f"{len(states)} states of shapes {sorted(shapes)}"
        raise MethodError(_refusal(model, f"for {PROBE_TOKENS} tokens it gives {found}"))


def _refusal(model: TaughtModel, reason: str) -> str:
    return (
        f"methods.columns: {type(model.backbone).__name__} cannot take columns, {reason}; they "
        f"need one state of width {model.dim} a token before and after each of its "
        f"{model.num_layers} layers; use a BERT-like encoder, a Llama-like decoder, or lora"
    )


def _source(task_name: str) -> str:
    """The name of a lateral's source; not `task_NNN`, which says whose a parameter is."""
    return task_name.replace("task_", "from_")


def _task_of(name: str) -> int:
    return int(name.rpartition("_")[2])


def _lateral_of(name: str) -> tuple[str, str]:
    """The place and the source in the name of a lateral's parameter; others match no lateral."""
    place, _, parameter = name.partition(".laterals.")
    return place, parameter.partition(".")[0]

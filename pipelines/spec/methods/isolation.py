"""Heads, frozen parts, shared or per-task low-rank adapters, and the exact head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.methods.base import CLASSIFIERS, Family, Kind, MethodConfig


class HeadsConfig(MethodConfig):
    """Classification heads: one block of rows a task, side by side, over the pooled features.

    `layout: auto` is `per_task` (a loss over the task's own classes) where the scenario gives the
    task id or the parameters of a task are isolated, `growing` (a loss over every class seen) in
    the class-incremental scenario, and `shared` (one block for all tasks) in the domain-incremental
    one.
    """

    family: ClassVar[Family] = "head"
    summary: ClassVar[str] = (
        "a head a task, or one that grows; cosine, frozen or preallocated by choice"
    )
    source: ClassVar[str] = "Zheng 2023, arXiv:2312.07887"
    protects: ClassVar[str] = "with frozen blocks, the rows of old classes"
    cost: ClassVar[str] = "one row of weights a class"
    kinds: ClassVar[frozenset[Kind]] = CLASSIFIERS
    kind_reason: ClassVar[str] = "a language model answers with tokens and has no such heads"
    owns_structure: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    type: Literal["heads"] = "heads"
    layout: Literal["auto", "per_task", "growing", "shared"] = "auto"
    cosine: bool = False
    cosine_scale: PositiveFloat = 16.0
    freeze_old_heads: bool = False
    preallocate: bool = False


class FreezeConfig(MethodConfig):
    """Partial fine-tuning: only the last `num_blocks` blocks and the heads train.

    With `warmup_epochs` the whole backbone trains for that many epochs of the lineage's first task
    and is frozen from then on (`num_blocks` is then ignored).
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = "only the last blocks and the head train, or nothing after a warm-up"
    source: ClassVar[str] = "Zheng 2023, arXiv:2312.07887 (warm-up)"
    protects: ClassVar[str] = "everything that is frozen"
    cost: ClassVar[str] = "less than fine-tuning: nothing below what trains is differentiated"
    owns_structure: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    type: Literal["freeze"] = "freeze"
    num_blocks: Annotated[int, Field(ge=0)] = 2
    warmup_epochs: Annotated[int, Field(ge=0)] | None = None

    @property
    def keeps_features(self) -> bool:
        """With no block open, or after a warm-up."""
        return self.num_blocks == 0 or self.warmup_epochs is not None

    def problem_with(self, kind: Kind) -> Problem | None:
        """A frozen language model has no head that could still learn."""
        if kind != "causal_lm" or not self.keeps_features:
            return None
        field = "num_blocks" if self.warmup_epochs is None else "warmup_epochs"
        return Problem(
            field,
            "nothing would train: a language model has no head beside its backbone",
            getattr(self, field),
            "Set num_blocks to 1 or more, without warmup_epochs",
        )


class LoraConfig(MethodConfig):
    """Low-rank adapters W + (alpha / rank) B A in every linear layer of the backbone.

    `per_task: true` trains one adapter a task and never touches it again; `false` trains one shared
    adapter on.
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = "low-rank adapters, one shared or one frozen a task"
    source: ClassVar[str] = "Hu 2021, arXiv:2106.09685"
    protects: ClassVar[str] = "the base weights; with per_task, old tasks entirely"
    cost: ClassVar[str] = "about 1 % more parameters, once or a task"
    owns_structure: ClassVar[bool] = True
    freezes_base: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    type: Literal["lora"] = "lora"
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    per_task: bool = False

    @property
    def isolates_tasks(self) -> bool:
        """Whether each task has an adapter of its own."""
        return self.per_task

    @property
    def task_part(self) -> str:
        """An adapter a task."""
        return "fresh adapter"


class AnalyticConfig(MethodConfig):
    """Ridge regression on a fixed random projection of frozen features, from summed statistics.

    Exact, free of order and of forgetting, one pass over the data. `ridge` is chosen from
    `ridge_grid` (relative to the mean diagonal of the Gram matrix) by accuracy on the validation
    rows of all tasks seen.
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = (
        "frozen features, random projection, exact ridge head; nothing to forget"
    )
    source: ClassVar[str] = "McDonnell 2023 (RanPAC), arXiv:2307.02251"
    protects: ClassVar[str] = "everything, exactly"
    cost: ClassVar[str] = "one pass, no training; one matrix of width x width"
    kinds: ClassVar[frozenset[Kind]] = CLASSIFIERS
    kind_reason: ClassVar[str] = "it solves for class scores, and a language model gives tokens"
    trains: ClassVar[bool] = False
    owns_structure: ClassVar[bool] = True
    freezes_base: ClassVar[bool] = True
    brings_head: ClassVar[bool] = True

    type: Literal["analytic"] = "analytic"
    width: PositiveInt = 5000
    layers: tuple[int, ...] | Literal["spread", "last"] = "spread"
    ridge_grid: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        1e-3,
        3e-3,
        1e-2,
        3e-2,
        1e-1,
        3e-1,
        1.0,
    )
    projection_seed: int = 0

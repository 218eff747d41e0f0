"""Structures that grow with the tasks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ratchet.pipelines.spec.methods.base import CLASSIFIERS, Family, Kind, MethodConfig


class _Growth(MethodConfig):
    family: ClassVar[Family] = "isolation"
    owns_structure: ClassVar[bool] = True
    freezes_base: ClassVar[bool] = True


class ColumnsConfig(_Growth):
    """Progressive networks: each task gets a narrower column beside the frozen base.

    Layer i of column k reads its own layer i-1 and, through a scaled, non-linear lateral adapter,
    layer i-1 of the base and of every earlier column, and its answer adds their answers, each times
    a learned share; earlier columns never read later ones and never change. With `max_laterals`,
    each level and the answer keep the laterals from so many earlier columns, those used most, and
    those from the base; the others are pruned when a task ends, so that growth in the number of
    tasks stays linear. `width` is the share of the base's heads.
    `lateral_width` is the bottleneck of a lateral, by default the column's width.
    """

    summary: ClassVar[str] = "a narrow column a task that reads the base and all earlier columns"
    source: ClassVar[str] = "Rusu 2016, arXiv:1606.04671"
    protects: ClassVar[str] = "old tasks entirely, bit for bit"
    cost: ClassVar[str] = "a column a task, and laterals from all earlier ones unless pruned"

    type: Literal["columns"] = "columns"
    width: Annotated[float, Field(gt=0, le=1)] = 0.25
    lateral_width: PositiveInt | None = None
    max_laterals: PositiveInt | None = None

    @property
    def isolates_tasks(self) -> bool:
        """Always: every task has its column."""
        return True


class ExpansionConfig(_Growth):
    """Fixed expansion layers: one wide, sparse layer a task between frozen backbone and head.

    Of `width` x hidden units only the share `active` with the largest pre-activations fires for an
    input, which gates what is updated. A task's inference uses its own layer alone.
    """

    summary: ClassVar[str] = "one wide, sparse layer a task between the frozen backbone and a head"
    source: ClassVar[str] = "Coop & Arel 2013 (fixed expansion layer), IEEE TNNLS 24(10)"
    protects: ClassVar[str] = "old tasks entirely, bit for bit"
    cost: ClassVar[str] = "width x hidden^2 parameters a task; the backbone runs once"
    kinds: ClassVar[frozenset[Kind]] = CLASSIFIERS
    kind_reason: ClassVar[str] = "it lies between pooled features and a classification head"
    brings_head: ClassVar[bool] = True

    type: Literal["expansion"] = "expansion"
    width: PositiveFloat = 4.0
    active: Annotated[float, Field(gt=0, le=1)] = 0.1

    @property
    def isolates_tasks(self) -> bool:
        """Always: every task has its layer."""
        return True


class ExpertsConfig(_Growth):
    """Mixture of experts: new expert blocks a task, and a gate that grows with them.

    Old experts and their gate rows are frozen. `balance` weighs the load-balance term. `top_k` is
    2 at least: a softmax over one kept logit is constant, and the gate could not learn.
    """

    summary: ClassVar[str] = "new expert blocks a task under a gate that grows with them"
    source: ClassVar[str] = "Shazeer 2017, arXiv:1701.06538; growth as in Aljundi 2017, 1611.06194"
    protects: ClassVar[str] = "old experts and their gate rows; not the balance between them"
    cost: ClassVar[str] = "experts_per_task blocks a task; top_k of them a token"
    recompute_reason: ClassVar[str] = "a layer that runs again weighs its experts without the mask"
    renews_weights: ClassVar[bool] = True

    type: Literal["experts"] = "experts"
    experts_per_task: PositiveInt = 1
    top_k: Annotated[int, Field(ge=2)] = 2
    bottleneck: PositiveInt = 64
    balance: NonNegativeFloat = 0.01

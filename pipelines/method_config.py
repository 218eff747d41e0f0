"""One frozen config class a method, and the union of them on `type`.

The defaults are the vetted settings of each method. Nothing here imports torch, so that the command
line and the service can validate a spec without loading it. `stack_problems` says which methods
compose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from pipelines.errors import Problem

Family = Literal["regularization", "replay", "isolation", "head"]
Scenario = Literal["class_incremental", "task_incremental", "domain_incremental"]


class MethodConfig(BaseModel):
    """Settings that every method config shares.

    Class attributes say what the method is, for `ratchet methods` and for the check of a stack:
    `owns_structure` marks methods that add modules to the model or decide which parameters train.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: ClassVar[Family]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    owns_structure: ClassVar[bool] = False
    stores_examples: ClassVar[bool] = False

    type: Any  # each config narrows it to one literal


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
    owns_structure: ClassVar[bool] = True

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
    owns_structure: ClassVar[bool] = True

    type: Literal["freeze"] = "freeze"
    num_blocks: Annotated[int, Field(ge=0)] = 2
    warmup_epochs: Annotated[int, Field(ge=0)] | None = None


class LoraConfig(MethodConfig):
    """Low-rank adapters W + (alpha / rank) B A in every linear layer of the backbone.

    `per_task: true` trains one adapter a task and never touches it again; `false` trains one shared
    adapter on.
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = "low-rank adapters, one shared or one frozen a task"
    source: ClassVar[str] = "Hu 2021, arXiv:2106.09685"
    owns_structure: ClassVar[bool] = True

    type: Literal["lora"] = "lora"
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    per_task: bool = False


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
    owns_structure: ClassVar[bool] = True

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


class EwcConfig(MethodConfig):
    """Elastic weight consolidation: strength / 2 * sum_i F_i (theta_i - anchor_i)^2.

    `decay` 1 keeps one summed anchor over tasks, below 1 is online EWC; `per_task` keeps one anchor
    a task.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "holds weights by their Fisher information"
    source: ClassVar[str] = (
        "Kirkpatrick 2017, arXiv:1612.00796; online: Schwarz 2018, arXiv:1805.06370"
    )

    type: Literal["ewc"] = "ewc"
    strength: Annotated[float, Field(ge=0)] = 1000.0
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    per_task: bool = False
    labels: Literal["sampled", "observed"] = "sampled"
    max_examples: PositiveInt | None = None


class LwfConfig(MethodConfig):
    """Learning without forgetting: T^2 KL(teacher || student) on new inputs, over old classes."""

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "keeps the old model's answers on the new inputs"
    source: ClassVar[str] = "Li & Hoiem 2016, arXiv:1606.09282"

    type: Literal["lwf"] = "lwf"
    strength: Annotated[float, Field(ge=0)] = 1.0
    temperature: PositiveFloat = 2.0


class ReplayConfig(MethodConfig):
    """A bounded memory of past examples, mixed into each batch (one forward for both).

    `fraction` is the share of a mixed batch that comes from memory; with `every_steps` k a batch is
    mixed only every k-th step (periodic rehearsal). Capacity 0 or fraction 0 is plain fine-tuning.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "a bounded memory of past examples in each batch"
    source: ClassVar[str] = "Vitter 1985 (reservoir); Rebuffi 2017, arXiv:1611.07725 (herding)"
    stores_examples: ClassVar[bool] = True

    type: Literal["replay"] = "replay"
    capacity: Annotated[int, Field(ge=0)] = 1000
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    every_steps: PositiveInt = 1
    selection: Literal["reservoir", "class_balanced", "herding"] = "reservoir"


AnyMethodConfig = Annotated[
    HeadsConfig | FreezeConfig | LoraConfig | AnalyticConfig | EwcConfig | LwfConfig | ReplayConfig,
    Field(discriminator="type"),
]

METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    config.model_fields["type"].default: config
    for config in (
        HeadsConfig,
        FreezeConfig,
        LoraConfig,
        AnalyticConfig,
        EwcConfig,
        LwfConfig,
        ReplayConfig,
    )
}


def isolates_tasks(methods: Sequence[MethodConfig]) -> bool:
    """Whether each task has parameters of its own that later tasks never touch."""
    return any(isinstance(method, LoraConfig) and method.per_task for method in methods)


def head_layout(
    methods: Sequence[MethodConfig], scenario: Scenario
) -> Literal["per_task", "growing", "shared"]:
    """The layout that `layout: auto` stands for in this stack and scenario."""
    for method in methods:
        if isinstance(method, HeadsConfig) and method.layout != "auto":
            return method.layout
    if scenario == "domain_incremental":
        return "per_task" if isolates_tasks(methods) else "shared"
    if scenario == "task_incremental" or isolates_tasks(methods):
        return "per_task"
    return "growing"


def stack_problems(methods: Sequence[MethodConfig], scenario: Scenario) -> list[Problem]:
    """Every reason why these methods, in this order, cannot work together.

    Args:
        methods: The stack, in order of execution.
        scenario: What the model is told about the task of an input.

    Returns:
        One problem a reason; empty when the stack is sound.
    """
    return [
        *_repeated(methods),
        *_out_of_order(methods),
        *_rival_structure(methods),
        *_nothing_to_protect(methods),
        *_head_problems(methods, scenario),
    ]


def _repeated(methods: Sequence[MethodConfig]) -> list[Problem]:
    types = [method.type for method in methods]
    return [
        Problem(
            f"methods[{i}].type",
            "a method may stand in a stack once",
            kind,
            "Remove the second one",
        )
        for i, kind in enumerate(types)
        if kind in types[:i]
    ]


def _out_of_order(methods: Sequence[MethodConfig]) -> list[Problem]:
    problems = []
    for i, method in enumerate(methods):
        before = [earlier.type for earlier in methods[:i] if not earlier.owns_structure]
        if method.owns_structure and before:
            problems.append(
                Problem(
                    f"methods[{i}]",
                    "methods that change the model's structure come first",
                    method.type,
                    f"Put {method.type} before {before[0]}",
                )
            )
    return problems


def _rival_structure(methods: Sequence[MethodConfig]) -> list[Problem]:
    owners = [m for m in methods if m.owns_structure and m.type != "heads"]
    if len(owners) < 2:
        return []
    names = " and ".join(owner.type for owner in owners)
    return [
        Problem(
            "methods",
            f"{names} each decide which parameters train, and only one may",
            [owner.type for owner in owners],
            "Keep one of them",
        )
    ]


def _nothing_to_protect(methods: Sequence[MethodConfig]) -> list[Problem]:
    kinds = {method.type for method in methods}
    problems = []
    for i, method in enumerate(methods):
        if method.owns_structure:
            continue
        if "analytic" in kinds:
            problems.append(
                Problem(
                    f"methods[{i}]",
                    f"{method.type} has nothing to protect: analytic trains nothing by gradient "
                    "and forgets nothing",
                    method.type,
                    f"Remove {method.type} or analytic",
                )
            )
        elif isolates_tasks(methods):
            problems.append(
                Problem(
                    f"methods[{i}]",
                    f"{method.type} has nothing to protect: only a fresh adapter trains, "
                    "old ones are frozen",
                    method.type,
                    f"Remove {method.type}, or set per_task: false on lora",
                )
            )
    return problems


def _head_problems(methods: Sequence[MethodConfig], scenario: Scenario) -> list[Problem]:
    problems = []
    layout = head_layout(methods, scenario)
    heads = next((m for m in methods if isinstance(m, HeadsConfig)), None)
    if layout == "shared" and scenario != "domain_incremental":
        problems.append(
            Problem(
                "methods.heads.layout",
                f"shared needs every task to have the same labels, which {scenario} "
                "does not promise",
                "shared",
                "Use growing or per_task, or scenario: domain_incremental",
            )
        )
    if isolates_tasks(methods) and layout != "per_task":
        problems.append(
            Problem(
                "methods.heads.layout",
                "an adapter a task needs a head a task: which adapter answers is the task id",
                layout,
                "Use per_task or auto, or set per_task: false on lora",
            )
        )
    if heads is not None and any(m.type == "analytic" for m in methods):
        problems.append(
            Problem("methods", "analytic brings its own head", "heads", "Remove heads or analytic")
        )
    if heads is not None and heads.preallocate and layout != "growing":
        problems.append(
            Problem(
                "methods.heads.preallocate",
                f"a softmax over future classes needs layout growing, and this stack has {layout}",
                True,
                "Set preallocate: false, or layout: growing",
            )
        )
    return problems

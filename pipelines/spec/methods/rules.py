"""Which methods compose, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.methods.base import Kind, MethodConfig, Scenario, Sharding
from ratchet.pipelines.spec.methods.head_layout import head_layout, isolates_tasks
from ratchet.pipelines.spec.methods.isolation import HeadsConfig
from ratchet.pipelines.spec.methods.union import METHOD_CONFIGS

KIND_WORDS: dict[Kind, str] = {"classifier": "a classifier", "causal_lm": "a causal language model"}


def stack_problems(
    methods: Sequence[MethodConfig],
    scenario: Scenario,
    kind: Kind = "classifier",
    sharding: Sharding = "data",
    gradient_checkpointing: bool = False,
) -> list[Problem]:
    """Every reason why these methods, in this order, cannot work together.

    Args:
        methods: The stack, in order of execution.
        scenario: What the model is told about the task of an input.
        kind: The kind of model that they are to teach.
        sharding: What is shared out over the workers.
        gradient_checkpointing: Whether activations are computed again for the gradient.

    Returns:
        One problem a reason; empty when the stack is sound.
    """
    problems = [
        *_wrong_kind(methods, kind),
        *_unsharded(methods, sharding),
        *(_not_recomputed(methods) if gradient_checkpointing else ()),
        *_without_data(methods),
        *_own_problems(methods, kind),
        *_repeated(methods),
        *_out_of_order(methods),
        *_rival_structure(methods),
        *_nothing_to_protect(methods),
    ]
    return problems if kind == "causal_lm" else [*problems, *_head_problems(methods, scenario)]


def _wrong_kind(methods: Sequence[MethodConfig], kind: Kind) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        if kind not in method.kinds:
            fitting = [name for name, config in METHOD_CONFIGS.items() if kind in config.kinds]
            yield Problem(
                f"methods[{i}].type",
                f"{method.type} does not work with {KIND_WORDS[kind]}: {method.kind_reason}",
                method.type,
                f"Use one of {', '.join(fitting)}",
            )


def _unsharded(methods: Sequence[MethodConfig], sharding: Sharding) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        if sharding == "fsdp" and not method.shards:
            fitting = [name for name, config in METHOD_CONFIGS.items() if config.shards]
            yield Problem(
                f"methods[{i}].type",
                f"{method.type} needs whole parameters on every worker, "
                "and scaling.sharding: fsdp gives each a part",
                method.type,
                f"Use sharding: data, or one of {', '.join(fitting)}",
            )


def _not_recomputed(methods: Sequence[MethodConfig]) -> Iterator[Problem]:
    for method in methods:
        if method.recompute_reason:
            yield Problem(
                "training.gradient_checkpointing",
                f"does not work with {method.type}: {method.recompute_reason}",
                True,
                f"Set it to false, or use another method than {method.type}",
            )


def _without_data(methods: Sequence[MethodConfig]) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        for field in method.uri_fields:
            if not getattr(method, field):
                yield Problem(
                    f"methods[{i}].{field}",
                    f"{method.type} needs data of its own; name at least one file, folder or glob",
                    hint=f"Set methods.{method.type}.{field}",
                )


def _own_problems(methods: Sequence[MethodConfig], kind: Kind) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        problem = method.problem_with(kind)
        if problem is not None:
            yield replace(problem, where=f"methods[{i}].{problem.where}")


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
    owners = [m for m in methods if m.owns_structure and m.family != "head"]
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


def _nothing_to_protect(methods: Sequence[MethodConfig]) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        if method.owns_structure:
            continue
        reason = _needless(method, methods)
        if reason is not None:
            message = f"{method.type} has nothing to protect: {reason[0]}"
            yield Problem(f"methods[{i}]", message, method.type, reason[1])


def _needless(method: MethodConfig, methods: Sequence[MethodConfig]) -> tuple[str, str] | None:
    """Why a method can protect nothing in a stack, and what to do."""
    drop = f"Remove {method.type}"
    for owner in methods:
        if not owner.trains:
            why = f"{owner.type} trains nothing by gradient and forgets nothing"
            return why, f"{drop} or {owner.type}"
        if owner.isolates_tasks:
            has_choice = "per_task" in type(owner).model_fields
            choice = f", or set per_task: false on {owner.type}" if has_choice else ""
            return (
                f"only a {owner.task_part} trains, old ones are frozen",
                f"{drop}{choice or f' or {owner.type}'}",
            )
        own_reason = method.needless_beside(owner)
        if own_reason is not None:
            return own_reason
        if owner.renews_weights and method.anchors_weights:
            why = f"{owner.type} makes what trains anew for each task, so no old weight can be held"
            return why, f"{drop} or {owner.type}"
    return None


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
                "parts of its own a task need a head a task: which part answers is the task id",
                layout,
                "Use per_task or auto",
            )
        )
    for own in (m.type for m in methods if m.brings_head):
        if heads is not None:
            problems.append(
                Problem("methods", f"{own} brings its own head", "heads", f"Remove heads or {own}")
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

"""What a spec is checked for beside the lineage that it goes on from, before any data is read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ratchet.pipelines.data.stream import Stream
from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.models.load import context_of, model_spec_of
from ratchet.pipelines.models.source import model_location, weights_hash
from ratchet.pipelines.spec.methods import MethodConfig, head_layout
from ratchet.pipelines.spec.methods.memory_room import memory_problems
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.start import Start
from ratchet.pipelines.version import configs_of


def check_continues(spec: UpdateSpec, start: Start) -> None:
    """Check that a spec can go on from a version.

    Raises:
        SpecError: Another base model, scenario or structure than the version's.
    """
    if start.manifest is None:
        return
    manifest, problems = start.manifest, []
    held = f"the lineage {spec.lineage!r} is at version {manifest.version} and keeps"
    base = model_spec_of(manifest)
    for field in ("name", "kind", "pooling", "dtype"):
        given, expected = getattr(spec.model, field), getattr(base, field)
        if given != expected:
            problems.append(Problem(f"model.{field}", f"{held} {expected!r}", given))
    if (
        not problems
        and weights_hash(model_location(spec.model.name)) != (manifest.base_model["sha256"])
    ):
        message = f"{held} the base weights it was grown from, and those found here differ"
        hint = "Install the base model of that version, or start another lineage"
        problems.append(Problem("model.name", message, spec.model.name, hint))
    if spec.scenario != manifest.scenario:
        problems.append(Problem("scenario", f"{held} {manifest.scenario}", spec.scenario))
    mine = [method for method in spec.methods if method.owns_structure]
    theirs = [method for method in configs_of(manifest) if method.owns_structure]
    if mine != theirs:
        message = f"{held} the structure {json.dumps(_plain(theirs))}"
        hint = "Repeat it, or start another lineage"
        problems.append(Problem("methods", message, _plain(mine), hint))
    if problems:
        raise SpecError(problems)


def _plain(methods: Sequence[MethodConfig]) -> list[JsonObject]:
    return [method.model_dump(mode="json") for method in methods]


def check_answering(spec: UpdateSpec) -> None:
    """Check that requests without a task can be answered as the spec wants.

    Raises:
        SpecError: A language model, or all heads at once where features are a task's own.
    """
    answer_by = spec.routing.answer_by
    if spec.model.kind == "causal_lm" and spec.routing.out_of_scope is not None:
        message = "a language model is asked by task, and rejects nothing"
        hint = "Remove the field"
        named = spec.routing.out_of_scope
        raise SpecError([Problem("routing.out_of_scope", message, named, hint)])
    if answer_by == "auto":
        return
    if spec.model.kind == "causal_lm":
        message = "a language model is asked by task, and has nothing to choose an answer by"
        raise SpecError([Problem("routing.answer_by", message, answer_by, "Remove the field")])
    own = next((method for method in spec.methods if method.isolates_tasks), None)
    per_task = head_layout(spec.methods, spec.scenario) == "per_task"
    if answer_by == "heads" and (per_task or own is not None):
        what = "each task has a head of its own" if own is None else f"{own.type} has parts a task"
        message = f"{what}, so that no softmax goes over the heads of all tasks"
        hint = "Allowed: auto, routed, prototypes, mixture"
        raise SpecError([Problem("routing.answer_by", message, answer_by, hint)])


def check_joint(spec: UpdateSpec) -> None:
    """Check that tasks learned at once do not need parameters of their own.

    Raises:
        SpecError: `joint` with a stack that isolates tasks: all rows would train the last one's.
    """
    owner = next((method for method in spec.methods if method.isolates_tasks), None)
    if spec.joint and owner is not None:
        message = "tasks learned at once share their parameters, and this stack gives each its own"
        has_choice = "per_task" in type(owner).model_fields
        hint = f"Set per_task: false on {owner.type}" if has_choice else f"Remove {owner.type}"
        raise SpecError([Problem("joint", message, True, hint)])


def check_memory(spec: UpdateSpec, tasks: Sequence[Task]) -> None:
    """Check that what is remembered can cover every class of the lineage.

    Raises:
        SpecError: A memory with fewer rows than there are classes.
    """
    groups = [index for task in tasks for index in task.class_ids]
    num_workers = spec.scaling.num_workers
    problems = memory_problems(spec.methods, len(set(groups)), len(groups), num_workers)
    if problems:
        raise SpecError(problems)


def check_context(spec: UpdateSpec) -> None:
    """Check that a model can read texts as long as they are to be.

    However short the rows are: a version is served with the same `max_length`.

    Raises:
        SpecError: `training.max_length` is over the model's positions.
    """
    context, length = context_of(spec.model), spec.training.max_length
    if length > context:
        message = f"exceeds the {context} positions of {spec.model.name}"
        hint = f"Use {context} or less, or a model with more positions"
        raise SpecError([Problem("training.max_length", message, length, hint)])


def without_test(stream: Stream) -> list[str]:
    """A warning where tasks have no test rows."""
    names = [rows.name for rows in stream.tasks if rows.test is None]
    if not names:
        return []
    return [
        f"test is not given for {', '.join(names)}: its reported accuracies are those of the "
        "validation rows, which choose settings too and so flatter"
    ]


def dropped_methods(spec: UpdateSpec, start: Start) -> list[str]:
    """What the parent version keeps for later updates, and this spec would not carry on."""
    if start.manifest is None:
        return []
    kept = {method.type for method in spec.methods}
    return [
        f"version {start.manifest.version} was taught with {method.type}, and this spec is not: "
        f"what {method.type} remembers will not be carried into the new version"
        for method in configs_of(start.manifest)
        if method.type not in kept and not method.owns_structure
    ]

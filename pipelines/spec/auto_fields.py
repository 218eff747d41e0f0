"""What a spec leaves to the search: which fields, whether that can be done, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.methods import MethodConfig, Sharding, StrengthConfig
from ratchet.pipelines.spec.section import AUTO
from ratchet.pipelines.spec.stability_decay import StabilityDecaySpec
from ratchet.pipelines.spec.update_spec import UpdateSpec

RATE_FIELD = "training.learning_rate"


def searches_rate(spec: UpdateSpec) -> bool:
    """Whether the learning rate is found for each task."""
    return spec.training.learning_rate == AUTO


def searched_methods(methods: Sequence[MethodConfig]) -> list[StrengthConfig]:
    """The methods whose strength is found for each task."""
    return [m for m in methods if isinstance(m, StrengthConfig) and m.is_searched]


def is_searched(spec: UpdateSpec) -> bool:
    """Whether anything is found for each task."""
    return searches_rate(spec) or bool(searched_methods(spec.methods))


def decay_settings(spec: UpdateSpec) -> StabilityDecaySpec:
    """How the search of a spec goes: as it says, or the defaults."""
    return spec.stability_decay or StabilityDecaySpec()


def first_strengths(spec: UpdateSpec) -> dict[str, float]:
    """The strength of each method that has one, by type, as a lineage begins with it."""
    start = decay_settings(spec).start
    return {
        m.type: start.get(m.type, m.first_strength) if m.is_searched else m.first_strength
        for m in spec.methods
        if isinstance(m, StrengthConfig)
    }


def without_search(spec: UpdateSpec) -> UpdateSpec:
    """The same spec with numbers where it says `auto`: the lowest rate, the first strengths."""
    first = first_strengths(spec)
    methods = tuple(
        m.model_copy(update={"strength": first[m.type]}) if isinstance(m, StrengthConfig) else m
        for m in spec.methods
    )
    training = spec.training
    if searches_rate(spec):
        lowest = min(decay_settings(spec).learning_rates)
        training = training.model_copy(update={"learning_rate": lowest})
    return spec.model_copy(update={"methods": methods, "training": training})


def num_trainings(spec: UpdateSpec, is_first: bool) -> tuple[int, int]:
    """How often a task is trained before it is taught, at least and at most.

    Args:
        spec: The spec.
        is_first: Whether it is a lineage's first task, where most methods hold nothing yet.
    """
    settings = decay_settings(spec)
    searched = searched_methods(spec.methods)
    decays = any(m.holds_first_task or not is_first for m in searched)
    rates = len(settings.learning_rates) if searches_rate(spec) else int(decays)
    return rates + int(decays), rates + decays * settings.max_attempts


def search_problems(
    methods: Sequence[MethodConfig],
    learning_rate: object,
    settings: StabilityDecaySpec,
    joint: bool,
    sharding: Sharding,
) -> list[Problem]:
    """Every reason why what is left to the search cannot be found.

    Args:
        methods: The stack.
        learning_rate: As the spec gives it.
        settings: How the search goes.
        joint: Whether all tasks are learned at once.
        sharding: What is shared out over the workers.
    """
    fields = [RATE_FIELD] if learning_rate == AUTO else []
    fields += [f"methods.{m.type}.strength" for m in searched_methods(methods)]
    reasons = list(_reasons(methods, joint, sharding)) if fields else []
    problems = [
        Problem(field, f"cannot be found: {reason}", AUTO, hint)
        for field in fields
        for reason, hint in reasons
    ]
    searched = [m.type for m in searched_methods(methods)]
    return problems + [
        Problem(
            f"stability_decay.start.{kind}",
            "a start belongs to a method of the stack with strength: auto, and there "
            f"{'are: ' + ', '.join(searched) if searched else 'is none'}",
            start,
            f"Remove it, or set methods.{kind}.strength to auto",
        )
        for kind, start in settings.start.items()
        if kind not in searched
    ]


def _reasons(
    methods: Sequence[MethodConfig], joint: bool, sharding: Sharding
) -> Iterator[tuple[str, str]]:
    """Why nothing can be searched for, and what to do."""
    if joint:
        yield (
            "tasks that are learned at once are not found settings for one by one",
            ("Give a number, or remove joint"),
        )
    untrained = next((m.type for m in methods if not m.trains), None)
    if untrained is not None:
        yield f"{untrained} trains nothing by gradient", f"Give a number, or remove {untrained}"
    if sharding == "fsdp":
        yield (
            "the search puts whole parameters back, and fsdp gives each worker a part",
            ("Give a number, or set scaling.sharding: data"),
        )


def search_warnings(spec: UpdateSpec) -> list[str]:
    """What is set and has no effect."""
    is_for_study = spec.tune is not None and spec.tune.strategy == "stability_decay"
    if spec.stability_decay is None or is_for_study or is_searched(spec):
        return []
    return [
        "stability_decay is set and nothing is searched for: set training.learning_rate, or a "
        "method's strength, to auto"
    ]

"""What every method config shares."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.section import AUTO, StrengthOrAuto

Family = Literal["regularization", "replay", "isolation", "head"]
Scenario = Literal["class_incremental", "task_incremental", "domain_incremental"]
Kind = Literal["classifier", "causal_lm"]
Sharding = Literal["data", "fsdp"]

BOTH_KINDS: frozenset[Kind] = frozenset(("classifier", "causal_lm"))
CLASSIFIERS: frozenset[Kind] = frozenset(("classifier",))
LANGUAGE_MODELS: frozenset[Kind] = frozenset(("causal_lm",))

START_OVER_DEFAULT = 100.0
"""Where the search for a strength begins, in units of the method's default strength."""


class MethodConfig(BaseModel):
    """Settings that every method config shares.

    Class attributes say what the method is, for `ratchet methods` and for the check of a stack.

    Class attributes:
        family: The family of the survey by De Lange et al., arXiv:1909.08383.
        summary: What it does, in a few words.
        source: The paper.
        protects: What is safe with it, in a few words.
        cost: What it costs beside plain fine-tuning, in a few words.
        kinds: Kinds of model that it works with.
        kind_reason: Why it does not work with the others.
        trains: It learns by gradient; one that does not leaves the rest of a stack without effect.
        owns_structure: It adds modules to the model or decides which parameters train.
        freezes_base: What it adds trains in place of the base model's weights, all frozen.
        brings_head: The heads are its own, so that their settings have no place beside it.
        stores_examples: It keeps examples of past tasks.
        anchors_weights: It holds trained weights near values of an earlier task.
        renews_weights: What trains is made anew for each task, so that there is nothing to anchor.
        shards: It works with parameters sharded over workers (`scaling.sharding: fsdp`).
        recompute_reason: Why it does not work where activations are computed again
            (`training.gradient_checkpointing`); empty where it does.
        uri_fields: Fields that hold URIs of data; local paths are relative to the spec's file.
        idle_in_first_task: Fields that nothing reads before a second task is taught, except for
            whether they are 0.
        off_at_zero: Fields that switch the method off at 0: it is then plain fine-tuning, bit for
            bit.

    A number switches a method off at 0 and at no other value. Trials that differ in idle numbers
    share the first task that one of them was taught, unless one is 0 and the other is not: a method
    that was off at 1, say, and kept nothing there, would go on from a first task that kept
    something. The conformance tests try 0 and 1 of every field that is named here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    family: ClassVar[Family]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    protects: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    kinds: ClassVar[frozenset[Kind]] = BOTH_KINDS
    kind_reason: ClassVar[str] = ""
    trains: ClassVar[bool] = True
    owns_structure: ClassVar[bool] = False
    freezes_base: ClassVar[bool] = False
    brings_head: ClassVar[bool] = False
    stores_examples: ClassVar[bool] = False
    anchors_weights: ClassVar[bool] = False
    renews_weights: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    recompute_reason: ClassVar[str] = ""
    uri_fields: ClassVar[tuple[str, ...]] = ()
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset()
    off_at_zero: ClassVar[frozenset[str]] = frozenset()

    type: Any  # each config narrows it to one literal

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse claims about fields that are not there: nothing would look at them."""
        super().__pydantic_init_subclass__(**kwargs)
        for claim in ("uri_fields", "idle_in_first_task", "off_at_zero"):
            unknown = set(getattr(cls, claim)) - cls.model_fields.keys()
            if unknown:
                names = ", ".join(sorted(unknown))
                raise TypeError(f"{cls.__name__}.{claim}: there is no field {names}")

    @property
    def isolates_tasks(self) -> bool:
        """Whether each task has parameters of its own that later tasks never touch."""
        return False

    @property
    def task_part(self) -> str:
        """What a task has of its own where tasks are isolated, in words."""
        return f"task's own part of {self.type}"

    @property
    def keeps_features(self) -> bool:
        """Whether features stay what they were from the first task on, or from its warm-up."""
        return False

    def problem_with(self, kind: Kind) -> Problem | None:
        """Why these settings cannot teach a kind of model, if so; `where` is the field's name."""

    def needless_beside(self, owner: MethodConfig) -> tuple[str, str] | None:
        """Why these settings can protect nothing beside a method that owns structure, if so.

        Returns:
            The reason, and what to do.
        """


class StrengthConfig(MethodConfig):
    """A method whose term is multiplied by a strength: a number, or found for each task."""

    off_at_zero: ClassVar[frozenset[str]] = frozenset(("strength",))

    strength: StrengthOrAuto

    @property
    def is_searched(self) -> bool:
        """Whether the strength is found for each task (`strength: auto`)."""
        return self.strength == AUTO

    @property
    def first_strength(self) -> float:
        """The strength to begin with: the given one, or a high one from which a search goes down.

        The latter is 100 times the method's default, unless `stability_decay.start` names another.
        """
        if self.strength != AUTO:
            return float(self.strength)
        return START_OVER_DEFAULT * type(self).model_fields["strength"].default

    @property
    def holds_first_task(self) -> bool:
        """Whether a lineage's first task is held already, so that its strength matters there."""
        return False

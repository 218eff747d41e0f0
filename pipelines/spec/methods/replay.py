"""Rehearsal: of remembered, imitated and general examples."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ratchet.pipelines.spec.methods.base import (
    CLASSIFIERS,
    LANGUAGE_MODELS,
    Family,
    Kind,
    MethodConfig,
)


class ReplayConfig(MethodConfig):
    """A bounded memory of past examples, mixed into each batch (one forward for both).

    `fraction` is the share of a mixed batch that comes from memory; with `every_steps` k a batch is
    mixed only every k-th step (periodic rehearsal). Capacity 0 or fraction 0 is plain fine-tuning.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "a bounded memory of past examples in each batch"
    source: ClassVar[str] = "Vitter 1985 (reservoir); Rebuffi 2017, arXiv:1611.07725 (herding)"
    protects: ClassVar[str] = "what the remembered examples cover"
    cost: ClassVar[str] = "fraction / (1 - fraction) more rows a step; the remembered texts"
    stores_examples: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("fraction", "every_steps"))
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("capacity", "fraction"))

    type: Literal["replay"] = "replay"
    capacity: Annotated[int, Field(ge=0)] = 1000
    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    every_steps: PositiveInt = 1
    selection: Literal["reservoir", "class_balanced", "herding"] = "reservoir"


class DerConfig(MethodConfig):
    """Dark experience replay (DER++): remembered answers are kept, and remembered labels.

    alpha * MSE(logits now, logits stored when the example was seen) + beta * CE(labels), on two
    independent draws of `rows_per_step` rows (over all workers) from one reservoir that fills
    while the task is being learned.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "a bounded memory of past examples with the answers given then"
    source: ClassVar[str] = "Buzzega 2020, arXiv:2004.07211"
    protects: ClassVar[str] = "the answers on remembered examples, not only their labels"
    cost: ClassVar[str] = "two draws of rows a step; the remembered texts and logits"
    kinds: ClassVar[frozenset[Kind]] = CLASSIFIERS
    kind_reason: ClassVar[str] = (
        "a language model's logits are a vocabulary a token: many times the remembered text"
    )
    stores_examples: ClassVar[bool] = True
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("capacity",))

    type: Literal["der"] = "der"
    capacity: Annotated[int, Field(ge=0)] = 1000
    alpha: Annotated[float, Field(ge=0)] = 0.5
    beta: Annotated[float, Field(ge=0)] = 0.5
    rows_per_step: PositiveInt = 16


class AgemConfig(MethodConfig):
    """Averaged gradient episodic memory: a step may not go against the memory's gradient.

    If g . g_ref < 0 then g becomes g - (g . g_ref / g_ref . g_ref) g_ref. g_ref is the gradient of
    `rows_per_step` remembered rows, averaged over all workers. After a penalty in the stack it
    bends the penalty's pull too; before one it does not see it.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "removes from each step what would raise the loss on the memory"
    source: ClassVar[str] = "Chaudhry 2019, arXiv:1812.00420"
    protects: ClassVar[str] = "the mean loss over the remembered examples"
    cost: ClassVar[str] = "a second forward and backward pass a step; the remembered texts"
    stores_examples: ClassVar[bool] = True
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("rows_per_step",))
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("capacity",))

    type: Literal["agem"] = "agem"
    capacity: Annotated[int, Field(ge=0)] = 1000
    rows_per_step: PositiveInt = 64
    selection: Literal["reservoir", "class_balanced"] = "reservoir"


class GenerativeConfig(MethodConfig):
    """Pseudo-rehearsal: the model makes up examples of old tasks and trains on them again.

    A language model writes `ratio` x N examples, shared out over the old tasks, from each task's
    marker before a new task of N examples, and learns to write its own examples beside its task
    (weight `language_weight`). For a classifier, `ratio` features are drawn for each new row from a
    Gaussian a class that was fitted when the class was learned, and only the heads rehearse them:
    that holds as long as the backbone stays as it was, so freeze it (`freeze` with `num_blocks: 0`
    or `warmup_epochs`). Drawing costs next to nothing there, and a ratio above 1 keeps the old
    classes' share of the loss as they become more.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "rehearses examples that the model makes up; keeps no text"
    source: ClassVar[str] = "Sun 2020 (LAMOL), arXiv:1909.03329"
    protects: ClassVar[str] = "what the model can still imitate, without any old text"
    cost: ClassVar[str] = "generation before each task; (1 + ratio) x 2 rows for each new one"
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("ratio",))

    type: Literal["generative"] = "generative"
    ratio: Annotated[float, Field(ge=0)] = 0.2
    language_weight: Annotated[float, Field(ge=0)] = 0.25
    temperature: PositiveFloat = 1.0
    top_k: PositiveInt = 20


class MixedDataConfig(MethodConfig):
    """A share of general text in every batch, so that the pretrained ability stays in use.

    `sources` are files, folders or globs of raw text, relative to the spec's file. They are drawn
    with probability proportional to size ** (1 / temperature): 1 in proportion, larger values more
    evenly.
    """

    family: ClassVar[Family] = "replay"
    summary: ClassVar[str] = "a share of general, pretraining-like text in every batch"
    source: ClassVar[str] = (
        "rehearsal of pretraining text; temperature sampling as in Conneau 2020, arXiv:1911.02116"
    )
    protects: ClassVar[str] = "the pretrained ability (retention)"
    cost: ClassVar[str] = "share / (1 - share) more rows a step"
    kinds: ClassVar[frozenset[Kind]] = LANGUAGE_MODELS
    kind_reason: ClassVar[str] = "general text has no class labels to learn from"
    uri_fields: ClassVar[tuple[str, ...]] = ("sources",)
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("share",))

    type: Literal["mixed_data"] = "mixed_data"
    sources: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    temperature: Annotated[float, Field(ge=1)] = 2.0

"""The spec of an update: YAML in, every problem at once, frozen models out.

Nothing here imports torch or ray. Paths in a spec are relative to the spec's file; `load_spec`
makes them absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.methods import AnyMethodConfig, Kind, MethodConfig, Scenario, Sharding
from ratchet.pipelines.spec.section import AUTO, Fraction, Name, RateOrAuto, SpecSection
from ratchet.pipelines.spec.stability_decay import StabilityDecaySpec
from ratchet.pipelines.spec.tune import TuneSpec


class ModelSpec(SpecSection):
    """The base model: a Hub id, a local folder, or the short name of an installed model package."""

    name: Annotated[str, Field(min_length=1)]
    kind: Kind = "classifier"
    pooling: Literal["mean", "cls"] = "mean"
    dtype: Literal["fp32", "bf16"] = "fp32"


class TaskSpec(SpecSection):
    """One task of the stream: where its splits lie.

    `answers` concerns language models: `closed` tasks are answered by one of the completions seen
    in training, two times on average at the least, and are scored by accuracy, `open` ones by what
    is generated; `auto` looks at the data.
    """

    name: Name
    train: Annotated[str, Field(min_length=1)]
    validation: str | None = None
    test: str | None = None
    answers: Literal["auto", "closed", "open"] = "auto"


class StreamSpec(SpecSection):
    """One data set cut into tasks, by the values of a column or by classes."""

    train: Annotated[str, Field(min_length=1)]
    validation: str | None = None
    test: str | None = None
    by: str | None = None
    classes_per_task: PositiveInt | None = None
    order: Literal["sorted", "given"] | NonNegativeInt = "sorted"

    @model_validator(mode="after")
    def _one_cut(self) -> StreamSpec:
        if (self.by is None) == (self.classes_per_task is None):
            raise ValueError(
                "a stream is cut by exactly one of `by` (a column) or `classes_per_task`"
            )
        return self


SplitPaths = TypeVar("SplitPaths", TaskSpec, StreamSpec)


class ColumnsSpec(SpecSection):
    """Names of the columns: text and label, or for language models prompt and completion.

    `messages` holds a chat: a list of `{role, content}`.
    """

    text: str = "text"
    label: str = "label"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"


class DataSpec(SpecSection):
    """How data is read, checked and kept.

    `max_held_out_rows` bounds the validation rows, and the test rows, of a task that a version
    carries. `format` concerns language models: pairs of prompt and completion, chats, or raw text
    that is packed into blocks; `auto` looks at the files.
    """

    format: Literal["auto", "instructions", "chat", "text"] = "auto"
    strict: bool = False
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    memory_budget_mb: PositiveFloat = 4096.0
    max_held_out_rows: PositiveInt = 10_000


class TrainingSpec(SpecSection):
    """How a task is learned. `batch_size` is the rows of an optimizer step over all workers.

    `learning_rate: auto` is found for each task on its validation rows; see `stability_decay`.
    """

    num_epochs: PositiveInt = 3
    learning_rate: RateOrAuto = 5e-5
    head_learning_rate: PositiveFloat | None = None
    batch_size: PositiveInt = 32
    max_length: Annotated[int, Field(ge=4)] = 128
    seed: NonNegativeInt = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    weight_decay: NonNegativeFloat = 0.01
    warmup_fraction: Fraction = 0.1
    schedule: Literal["linear", "constant"] = "linear"
    max_grad_norm: PositiveFloat | None = 1.0
    gradient_accumulation_steps: PositiveInt = 1
    gradient_checkpointing: bool = False
    checkpoint_every_steps: PositiveInt | None = 500

    @property
    def rate(self) -> float:
        """The learning rate; where it is searched for, the stage loop is given what was found."""
        assert self.learning_rate != AUTO, "it is decided before anything trains"
        return self.learning_rate


class ScalingSpec(SpecSection):
    """Ray Train workers; `num_workers: 0` runs the same loop inside the driver.

    `sharding: data` gives each worker a share of the rows, `fsdp` also a share of every parameter
    of the base model.
    """

    num_workers: NonNegativeInt = 0
    cpus_per_worker: PositiveFloat = 1.0
    gpus_per_worker: NonNegativeFloat = 0.0
    sharding: Sharding = "data"
    max_failures: NonNegativeInt = 3

    @model_validator(mode="after")
    def _someone_to_share_with(self) -> ScalingSpec:
        if self.sharding == "fsdp" and self.num_workers < 2:
            raise ValueError(
                "sharding: fsdp shares the parameters out over the workers, and num_workers is "
                f"{self.num_workers}: set num_workers to 2 or more, or sharding: data"
            )
        return self


class GateSpec(SpecSection):
    """The rule that lets a version become champion, measured on validation data.

    `max_forgetting` bounds what a task may lose among its own labels, `max_served_loss` what it may
    lose as `auto` answers it, both against the task's anchor and as shares of its rows; 1 holds it
    to nothing. `max_accepted_out_of_scope` is the share of `routing.out_of_scope` that may be
    answered as if it belonged to a task. `confidence` is that of the intervals. `when_unsure`
    decides where the rows show neither that a limit held nor that it broke: by the `estimate`, or
    always.
    """

    max_forgetting: Fraction = 0.02
    max_served_loss: Fraction = 0.1
    max_accepted_out_of_scope: Fraction = 1.0
    min_accuracy: Fraction = 0.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    when_unsure: Literal["estimate", "refuse", "promote"] = "estimate"


AnswerByChoice = Literal["auto", "heads", "routed", "prototypes", "mixture"]


class RoutingSpec(SpecSection):
    """How `auto` requests find their task.

    `accept_fraction` is the share of in-scope validation text that must be accepted. `answer_by` is
    what gives their label: `heads`, one softmax over the heads of all tasks; `routed`, the heads of
    the task that the router names; `prototypes`, the router's class statistics; `mixture`, all of
    them weighed. `auto` chooses at the end of each update, on validation rows. `out_of_scope` holds
    text that belongs to no task, which the gate judges rejection by; later updates keep it.
    """

    accept_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.95
    answer_by: AnswerByChoice = "auto"
    out_of_scope: Annotated[str, Field(min_length=1)] | None = None

    def with_paths_under(self, folder: Path) -> RoutingSpec:
        """The same with a relative path made absolute."""
        if self.out_of_scope is None:
            return self
        return self.model_copy(update={"out_of_scope": absolute_uri(self.out_of_scope, folder)})


class RetentionSpec(SpecSection):
    """General held-out data, on which the base model and the taught one are compared.

    For a language model `test` is raw text, and perplexity is measured: lower is better. For a
    classifier `train` and `test` hold labelled rows, and the accuracy of a linear probe is
    measured: higher is better.
    """

    test: Annotated[str, Field(min_length=1)]
    train: str | None = None


class EvaluationSpec(SpecSection):
    """What is measured beside the accuracy of every task after every stage.

    `max_new_tokens` and `max_generated_rows` bound what a language model generates for a task.
    `probe` trains a linear head a task on the final features. `forgetting_events` counts, for each
    training example of the tasks seen, how often it goes from right to wrong. `joint` is a
    version's folder, or the name of a lineage, that learned the same tasks at once:
    `intransigence` is measured against it.
    """

    max_new_tokens: PositiveInt = 64
    max_generated_rows: PositiveInt = 200
    probe: bool = False
    forgetting_events: bool = False
    joint: str | None = None
    retention: RetentionSpec | None = None

    def with_paths_under(self, folder: Path) -> EvaluationSpec:
        """The same with relative paths made absolute; a lineage's name stays."""
        changes: dict[str, object] = {}
        if self.joint is not None and (folder / self.joint).is_dir():
            changes["joint"] = str((folder / self.joint).resolve())
        if self.retention is not None:
            paths = {split: getattr(self.retention, split) for split in ("train", "test")}
            absolute = {k: absolute_uri(path, folder) for k, path in paths.items() if path}
            changes["retention"] = self.retention.model_copy(update=absolute)
        return self.model_copy(update=changes)


class UpdateSpec(SpecSection):
    """Everything about one update. See `configs/quickstart/` for complete examples."""

    lineage: Name
    model: ModelSpec
    scenario: Scenario = "class_incremental"
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)] | None = None
    stream: StreamSpec | None = None
    columns: ColumnsSpec = ColumnsSpec()
    data: DataSpec = DataSpec()
    preset: str | None = None
    methods: tuple[AnyMethodConfig, ...] = ()
    joint: bool = False
    training: TrainingSpec = TrainingSpec()
    scaling: ScalingSpec = ScalingSpec()
    gate: GateSpec = GateSpec()
    routing: RoutingSpec = RoutingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    stability_decay: StabilityDecaySpec | None = None
    tune: TuneSpec | None = None

    def with_paths_under(self, folder: Path) -> UpdateSpec:
        """The same spec with every relative local path made absolute below `folder`."""
        changes: dict[str, object] = {}
        if self.tasks is not None:
            changes["tasks"] = tuple(_absolute(task, folder) for task in self.tasks)
        if self.stream is not None:
            changes["stream"] = _absolute(self.stream, folder)
        changes["evaluation"] = self.evaluation.with_paths_under(folder)
        changes["routing"] = self.routing.with_paths_under(folder)
        local_model = folder / self.model.name
        if self.model.name.startswith((".", "/")) or (
            "/" in self.model.name and local_model.is_dir()
        ):
            changes["model"] = self.model.model_copy(update={"name": str(local_model.resolve())})
        if any(method.uri_fields for method in self.methods):
            changes["methods"] = tuple(_with_uris(method, folder) for method in self.methods)
        return self.model_copy(update=changes)


def _absolute(section: SplitPaths, folder: Path) -> SplitPaths:
    paths = {split: getattr(section, split) for split in ("train", "validation", "test")}
    return section.model_copy(
        update={
            split: absolute_uri(path, folder) for split, path in paths.items() if path is not None
        }
    )


def _with_uris(method: MethodConfig, folder: Path) -> MethodConfig:
    fields = {name: getattr(method, name) for name in method.uri_fields}
    return method.model_copy(
        update={name: tuple(absolute_uri(u, folder) for u in uris) for name, uris in fields.items()}
    )


def absolute_uri(path: str, folder: Path) -> str:
    """`path` below `folder` when it is a relative local path; URIs with a scheme stay."""
    if "://" in path:
        return path
    return str((folder / path).resolve()) if not Path(path).is_absolute() else path


def spec_as_dict(spec: UpdateSpec) -> JsonObject:
    """The spec as plain JSON values, without what was left at its default of None."""
    return _without_default_nones(spec, spec.model_dump(mode="json"))


def spec_as_yaml(spec: UpdateSpec) -> str:
    """The spec as a file that gives it again, in the order of its fields."""
    return yaml.safe_dump(dict(spec_as_dict(spec)), sort_keys=False)


def _without_default_nones(value: Any, dumped: Any) -> Any:
    """What was dumped of a value; a None that is no default stays, as it says something."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            name: _without_default_nones(getattr(value, name), own)
            for name, own in dumped.items()
            if own is not None or fields[name].default is not None
        }
    if isinstance(value, dict):
        return {name: _without_default_nones(own, dumped[name]) for name, own in value.items()}
    if isinstance(value, tuple | list):
        return [_without_default_nones(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped

"""What happens in a run, told by its workers and its driver. Imports no torch.

Each is a type of its own, and readers match on it. As JSON an event has its `kind`, the format
number of all of them, and its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.formats import FORMAT_KEY, check_format, checked
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.pages.search_record import SearchRecord

FORMAT = 1
WHERE = "an event of a run"
HINT = "follow the run with the release that teaches it"


@dataclass(frozen=True)
class Setting:
    """What a task is trained with.

    Attributes:
        learning_rate: The learning rate.
        strengths: Strengths by method; None for plain fine-tuning, with structure only.
    """

    learning_rate: float
    strengths: Mapping[str, float] | None = None


@dataclass(frozen=True)
class PlannedStage:
    """What will be taught together: the tasks by name, their rows, epochs and steps."""

    tasks: tuple[str, ...]
    num_rows: int
    num_epochs: int
    num_steps: int


@dataclass(frozen=True)
class Planned:
    """The data was checked.

    Attributes:
        folder: The run's folder.
        parent: Number of the version to start from; None for the base model.
        stages: What will be taught.
    """

    folder: str
    parent: int | None
    stages: tuple[PlannedStage, ...]


@dataclass(frozen=True)
class Warned:
    """Something that the user should know, and that ends nothing."""

    message: str


@dataclass(frozen=True)
class WorkerStarted:
    """The first worker runs; it loads the model next."""


@dataclass(frozen=True)
class Resumed:
    """The run goes on from a checkpoint: after so many stages, at a step of an epoch."""

    stages_done: int
    epoch: int
    step_in_epoch: int


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; `stage` is its row of the accuracy matrix."""

    stage: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class SearchTrained:
    """A training of a task's search has ended; `score` is None where it diverged."""

    task: str
    setting: Setting
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Searched:
    """What a task is taught with was found."""

    task: str
    record: SearchRecord


@dataclass(frozen=True)
class StepTaken:
    """An optimizer step; not every one is told.

    Attributes:
        task: The task that is taught.
        epoch: From 0.
        step: Within the stage, from 1.
        num_steps: Steps of the stage.
        loss: Of the step.
        rows_per_second: Of the last steps.
    """

    task: str
    epoch: int
    step: int
    num_steps: int
    loss: float
    rows_per_second: float


@dataclass(frozen=True)
class StageDone:
    """A stage was taught and measured.

    Attributes:
        stage: Its row of the accuracy matrix.
        tasks: Names of the tasks that it taught.
        scores: Of every task measured.
        costs: Of the stage's tasks: `..._seconds` of phases, and sizes.
    """

    stage: int
    tasks: tuple[str, ...]
    scores: Scores
    costs: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Taught:
    """Every stage is done; the version is judged and written next."""


RunEvent: TypeAlias = (
    Planned
    | Warned
    | WorkerStarted
    | Resumed
    | StageStarted
    | SearchTrained
    | Searched
    | StepTaken
    | StageDone
    | Taught
)

KINDS: Mapping[type[RunEvent], str] = {
    Planned: "planned",
    Warned: "warning",
    WorkerStarted: "worker_started",
    Resumed: "resumed",
    StageStarted: "stage_started",
    SearchTrained: "search_trained",
    Searched: "searched",
    StepTaken: "step",
    StageDone: "stage_done",
    Taught: "taught",
}


def event_to_json(event: RunEvent) -> JsonObject:
    """An event as plain JSON values."""
    fields = asdict(event)
    if isinstance(event, Searched):
        fields = {"task": event.task, **asdict(event.record)}
    return {"kind": KINDS[type(event)], FORMAT_KEY: FORMAT, **fields}


def event_from_json(raw: Json) -> RunEvent:
    """The event that `event_to_json` gave; keys beside its own are passed over.

    Raises:
        VersionError: It is of another format, of no kind that is known, or broken.
    """
    check_format(raw, FORMAT, WHERE, HINT)
    assert isinstance(raw, dict), "it has a format number"
    types = {kind: type_ for type_, kind in KINDS.items()}
    word = raw.get("kind")
    found = types.get(word) if isinstance(word, str) else None
    if found is None:
        raise VersionError(f"{WHERE} is of no kind that is known: {word!r}; {HINT}")
    if found is Searched:
        raw = {"task": raw.get("task"), "record": raw}
    return checked(found, raw, WHERE, HINT)

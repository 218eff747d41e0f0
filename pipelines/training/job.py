"""What a worker group is asked to do: plain values that survive the trip to another machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.registry.s3.address import RunAddress
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.types import Task


@dataclass(frozen=True)
class UpdateJob:
    """An update, planned: every choice is made, only the teaching is left.

    Attributes:
        spec: The spec, with absolute paths.
        labels: The lineage's labels by class id, those of this update included.
        tasks: Every task of the lineage, past ones first; `stage` says what is taught together.
        num_past: How many of them an earlier version has learned.
        folder: The run's folder: prepared data, events, checkpoints, the version being written.
        parent: Folder of the version that the update starts from, or None for the base model.
        mirror: Where checkpoints go beside the folder, so that another machine may go on.
    """

    spec: UpdateSpec
    labels: tuple[str, ...]
    tasks: tuple[Task, ...]
    num_past: int
    folder: Path
    parent: Path | None
    mirror: RunAddress | None = None

    @property
    def is_language(self) -> bool:
        """Whether a language model is taught."""
        return self.spec.model.kind == "causal_lm"

    @property
    def past(self) -> tuple[Task, ...]:
        """Tasks that the parent knows."""
        return self.tasks[: self.num_past]

    @property
    def new(self) -> tuple[Task, ...]:
        """Tasks that this update teaches."""
        return self.tasks[self.num_past :]

    @property
    def stages(self) -> tuple[tuple[Task, ...], ...]:
        """New tasks, grouped by what is taught together, in order."""
        numbers = sorted({task.stage for task in self.new})
        return tuple(tuple(t for t in self.new if t.stage == number) for number in numbers)

    def to_json(self) -> JsonObject:
        """Plain JSON values."""
        return {
            "spec": self.spec.model_dump(mode="json"),
            "labels": list(self.labels),
            "tasks": [asdict(task) for task in self.tasks],
            "num_past": self.num_past,
            "folder": str(self.folder),
            "parent": None if self.parent is None else str(self.parent),
            "mirror": None if self.mirror is None else asdict(self.mirror),
        }

    @staticmethod
    def from_json(raw: JsonObject) -> UpdateJob:
        """The job that `to_json` wrote."""
        return checked(UpdateJob, raw, "a job", "start it again with one release everywhere")

"""The result of an update: what `ratchet run --json` prints, and what its run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from ratchet.pipelines.evaluation.as_served import AsServed
from ratchet.pipelines.evaluation.costs import TaskCosts
from ratchet.pipelines.evaluation.instruments import Findings
from ratchet.pipelines.evaluation.scores import Matrix
from ratchet.pipelines.evaluation.verdict import Verdict
from ratchet.pipelines.files.formats import FORMAT_KEY, check_format, checked, plain
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.pages.search_record import SearchRecord

FORMAT = 2
HINT = "end it with the release that wrote it, or remove the run's folder to teach it again"
FLIP_RATES = "negative_flip_rate_by_stage"

MainScore = Literal["accuracy", "exact_match", "token_accuracy"]
Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Accuracies:
    """One accuracy of every task: its matrix [stages, tasks], and the metrics of it."""

    accuracy_matrix: Matrix | None
    metrics: Metrics


@dataclass(frozen=True)
class LanguageResult:
    """What only a language model is measured by.

    Attributes:
        main_scores: What the accuracy matrix holds of each task, in its order.
        matrices: Each further measure of test data as a matrix [stages, tasks], by
            `<measure>_matrix`.
    """

    main_scores: tuple[MainScore, ...]
    matrices: Mapping[str, Matrix]


@dataclass(frozen=True)
class UpdateResult:
    """What an update gave.

    Attributes:
        lineage: Name of the lineage.
        version: Number of the version.
        promoted: Whether it became champion.
        tasks: Names of all tasks, in the order learned.
        accuracy_matrix: The accuracy that is reported first, [stages, tasks].
        metrics: Every metric of it, and what the instruments found as numbers.
        gate: What the gate decided, and why.
        costs: What each task of the update cost.
        instruments: What the instruments found by task and example.
        flip_rates: The share of right answers that each stage turned wrong.
        search: What was tried and decided for each task, where it was left to `auto`.
        precision: What it was taught in.
        warnings: What was found wrong with the data, a sentence each.
        seconds: By phase, and in all.
        report: Path of the report.
        as_served: What requests that name no task get; None for a language model, which is asked by
            task, and where the version could not be loaded.
        language: What only a language model is measured by.
        with_task_id: The accuracy over each task's own labels, where it is not the first one.
        run: Key of the tracked run, where the caller registers the version.
    """

    lineage: str
    version: int
    promoted: bool
    tasks: tuple[str, ...]
    accuracy_matrix: Matrix | None
    metrics: Metrics
    gate: Verdict
    costs: Mapping[str, TaskCosts]
    instruments: Findings
    flip_rates: tuple[float | None, ...]
    search: Mapping[str, SearchRecord]
    precision: str
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    report: str
    as_served: AsServed | None = None
    language: LanguageResult | None = None
    with_task_id: Accuracies | None = None
    run: str | None = None

    def to_json(self) -> JsonObject:
        """The result object of `ratchet run --json`."""
        found: dict[str, object] = {
            "lineage": self.lineage,
            "version": self.version,
            "promoted": self.promoted,
            "tasks": self.tasks,
            "accuracy_matrix": self.accuracy_matrix,
            "metrics": self.metrics,
            "gate": self.gate.as_dict(),
            "costs": {name: own.to_json() for name, own in self.costs.items()},
            "instruments": {**self.instruments.to_json(), FLIP_RATES: self.flip_rates},
            "search": {name: asdict(record) for name, record in self.search.items()},
            "precision": self.precision,
            "warnings": self.warnings,
        }
        if self.as_served is not None:
            found["as_served"] = asdict(self.as_served)
        if self.language is not None:
            found["main_scores"] = self.language.main_scores
            found |= self.language.matrices
        if self.with_task_id is not None:
            found["with_task_id"] = asdict(self.with_task_id)
        found |= {"seconds": self.seconds, "report": self.report}
        if self.run is not None:
            found["run"] = self.run
        return {name: plain(value) for name, value in found.items()}

    def kept(self) -> JsonObject:
        """The same under its format number, as a run keeps it."""
        return {FORMAT_KEY: FORMAT, **self.to_json()}

    @staticmethod
    def from_kept(raw: Json, where: str) -> UpdateResult:
        """What `kept` gave; `where` it was, for the message.

        Raises:
            VersionError: It is of another format, or broken.
        """
        check_format(raw, FORMAT, where, HINT)
        return UpdateResult.from_json(raw, where)

    @staticmethod
    def from_json(raw: Json, where: str) -> UpdateResult:
        """What `to_json` gave; `where` it was, for the message.

        Raises:
            VersionError: It is no result.
        """
        parts = dict(raw) if isinstance(raw, Mapping) else {}
        instruments = parts.get("instruments")
        if isinstance(instruments, Mapping):
            parts["flip_rates"] = instruments.get(FLIP_RATES)
        if "main_scores" in parts:
            names = [name for name in parts if name.endswith("_matrix")]
            matrices = {name: parts[name] for name in names if name != "accuracy_matrix"}
            parts["language"] = {"main_scores": parts["main_scores"], "matrices": matrices}
        return checked(UpdateResult, parts, where, HINT)

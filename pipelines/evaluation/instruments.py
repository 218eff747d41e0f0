"""What the instruments of an update found, as metrics and as plain values for its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ratchet.pipelines.evaluation.flips import stage_flip_rates, update_flip_rate
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.report.data import ForgottenExample

MEASURES = {"test_all": "all", "test_own": "own"}
"""Which of the packed answers stand for a measure."""

Right = Mapping[str, Mapping[str, str]]
"""Whether test rows were right, packed by task: with the task id (`own`) and without it (`all`)."""


@dataclass(frozen=True)
class TaskEvents:
    """How often the examples of a task were forgotten.

    Attributes:
        mean: Events an example.
        never_learned: Examples that were never right.
        num_examples: How many there are.
    """

    mean: float
    never_learned: int
    num_examples: int


@dataclass(frozen=True)
class ForgettingEvents:
    """Events by the task's name, and the examples with the most of them, most first."""

    by_task: Mapping[str, TaskEvents]
    most_forgotten: tuple[ForgottenExample, ...]


@dataclass(frozen=True)
class Retention:
    """What is left of the pretrained ability: its measure of the base, and of the taught model."""

    before: float
    after: float


@dataclass(frozen=True)
class Findings:
    """What the instruments found; None of one that was not asked for.

    Attributes:
        probe: Accuracy of a linear probe by task.
        forgetting_events: Events of the training examples.
        retention: Measured on general data.
    """

    probe: Mapping[str, float] | None = None
    forgetting_events: ForgettingEvents | None = None
    retention: Retention | None = None

    def to_json(self) -> JsonObject:
        """Plain JSON values of what was asked for."""
        return {name: found for name, found in asdict(self).items() if found is not None}


def instrument_metrics(
    findings: Findings,
    right: Sequence[Right],
    measure: str,
    stages: Sequence[Sequence[str]],
    champion: Right,
) -> dict[str, float | None]:
    """Metrics of METHODS.md that come from instruments; None where one was not asked for.

    Args:
        findings: What the workers found.
        right: What was right after each stage.
        measure: `test_all` or `test_own`: which answers count for `negative_flip_rate`.
        stages: Names of the tasks that each stage of the update taught.
        champion: What the version that the update started from got right; empty for none.
    """
    which = MEASURES[measure]
    probes, events, retention = findings.probe, findings.forgetting_events, findings.retention
    rows = [row[which] for row in right]
    return {
        "probe_accuracy": None if not probes else float(np.mean(list(probes.values()))),
        "forgetting_events": None if events is None else _mean_events(events.by_task),
        "retention": None if retention is None else retention.after,
        "retention_before": None if retention is None else retention.before,
        "negative_flip_rate": update_flip_rate(rows, stages, champion.get(which, {})),
    }


def flip_rates(
    right: Sequence[Right], measure: str, stages: Sequence[Sequence[str]], champion: Right
) -> list[float | None]:
    """The rate of wrong answers that were right before, by stage; arguments as above."""
    which = MEASURES[measure]
    return stage_flip_rates([row[which] for row in right], stages, champion.get(which, {}))


def _mean_events(by_task: Mapping[str, TaskEvents]) -> float:
    """Mean events an example, each example counting once."""
    number = sum(own.num_examples for own in by_task.values())
    return sum(own.mean * own.num_examples for own in by_task.values()) / number

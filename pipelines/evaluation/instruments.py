"""What the instruments of an update found, as metrics and as plain values for its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ratchet.pipelines.evaluation.flips import stage_flip_rates, update_flip_rate

MEASURES = {"test_all": "all", "test_own": "own"}
"""Which of the packed answers stand for a measure."""

Right = Mapping[str, Mapping[str, str]]


def instrument_metrics(
    outcome: Mapping[str, Any], measure: str, stages: Sequence[Sequence[str]], champion: Right
) -> dict[str, float | None]:
    """Metrics of METHODS.md that come from instruments; None where one was not asked for.

    Args:
        outcome: What the workers wrote, `instruments` and `right` among it.
        measure: `test_all` or `test_own`: which answers count for `negative_flip_rate`.
        stages: Names of the tasks that each stage of the update taught.
        champion: What the version that the update started from got right; empty for none.
    """
    instruments, which = outcome["instruments"], MEASURES[measure]
    probes = instruments.get("probe")
    events = instruments.get("forgetting_events")
    rows = [row[which] for row in outcome["right"]]
    return {
        "probe_accuracy": None if not probes else float(np.mean(list(probes.values()))),
        "forgetting_events": None if not events else _mean_events(events["by_task"]),
        "retention": instruments.get("retention", {}).get("after"),
        "retention_before": instruments.get("retention", {}).get("before"),
        "negative_flip_rate": update_flip_rate(rows, stages, champion.get(which, {})),
    }


def instrument_details(
    outcome: Mapping[str, Any], measure: str, stages: Sequence[Sequence[str]], champion: Right
) -> dict[str, Any]:
    """What the instruments found by task, stage and example; arguments as above."""
    which = MEASURES[measure]
    rows = [row[which] for row in outcome["right"]]
    rates = stage_flip_rates(rows, stages, champion.get(which, {}))
    return dict(outcome["instruments"]) | {"negative_flip_rate_by_stage": rates}


def _mean_events(by_task: Mapping[str, Mapping[str, Any]]) -> float:
    """Mean events an example, each example counting once."""
    number = sum(own["num_examples"] for own in by_task.values())
    return sum(own["mean"] * own["num_examples"] for own in by_task.values()) / number

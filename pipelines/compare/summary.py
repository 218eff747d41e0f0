"""Runs that differ in their seed alone, as one row: mean and interval of each measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.compare.record import Record
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.pages.estimate import Estimate

METRICS = (
    "average_accuracy",
    "average_accuracy_as_served",
    "forgetting",
    "learning_accuracy",
    "intransigence",
    "probe_accuracy",
    "backward_transfer",
    "forward_transfer",
    "negative_flip_rate",
    "retention",
    "retention_before",
)
COSTS = ("seconds", "peak_memory_bytes", "parameters_added", "bytes_added")


@dataclass(frozen=True)
class Row:
    """A method with one order and one model, over all seeds.

    Attributes:
        method: Its name.
        family: Family of its methods.
        order: The order of the tasks.
        model: The base model.
        kind: Its kind, which says what `retention` is: a probe's accuracy, or a perplexity.
        num_done: Seeds that are done.
        num_runs: Seeds in all.
        errors: What the failed runs said, each once.
        reports: Pages of the single runs, relative to the comparison's folder.
        metrics: By name, without the task id where the scenario has none.
        with_task_id: The same with the task id; empty where the first already is.
        costs: By name; `seconds` is of the whole update.
    """

    method: str
    family: str
    order: int
    model: str
    kind: str
    num_done: int
    num_runs: int
    errors: tuple[str, ...]
    reports: tuple[str, ...]
    metrics: Mapping[str, Estimate | None]
    with_task_id: Mapping[str, Estimate | None]
    costs: Mapping[str, Estimate | None]

    def as_dict(self) -> JsonObject:
        """Plain JSON values."""
        groups = ("metrics", "with_task_id", "costs")
        plain = {k: v for k, v in vars(self).items() if k not in groups}
        estimates = {group: _plain(getattr(self, group)) for group in groups}
        lists = {"errors": list(self.errors), "reports": list(self.reports)}
        return {**plain, **lists, **estimates}


def rows_of(records: Sequence[Record]) -> list[Row]:
    """One row for each method, order and model, in the order of the records."""
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        key = (record["method"], record["order"], record["model"])
        groups.setdefault(key, []).append(record)
    return [_row(group) for group in groups.values()]


def _row(records: Sequence[Record]) -> Row:
    first = records[0]
    done = [record for record in records if record["status"] == "done"]
    named = [record["with_task_id"] for record in done if record["with_task_id"]]
    errors = [record["error"] for record in records if record["error"]]
    return Row(
        method=first["method"],
        family=first["family"],
        order=first["order"],
        model=first["model"],
        kind=first["kind"],
        num_done=len(done),
        num_runs=len(records),
        errors=tuple(dict.fromkeys(f"{e['type']}: {e['message']}" for e in errors)),
        reports=tuple(record["report"] for record in done if "report" in record),
        metrics={name: _estimate([r["metrics"] for r in done], name) for name in METRICS},
        with_task_id={name: _estimate([r["metrics"] for r in named], name) for name in METRICS},
        costs={name: _estimate([r["totals"] for r in done], name) for name in COSTS},
    )


def _estimate(sources: Sequence[Mapping[str, object]], name: str) -> Estimate | None:
    values = [source.get(name) for source in sources]
    return Estimate.of([float(value) for value in values if isinstance(value, int | float)])


def _plain(estimates: Mapping[str, Estimate | None]) -> JsonObject:
    return {name: own and own.as_dict() for name, own in estimates.items()}

"""A comparison's rows as a table of words, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ratchet.pipelines.compare.summary import Row
from ratchet.pipelines.pages import words
from ratchet.pipelines.pages.estimate import INTERVAL_WORDS, Estimate
from ratchet.pipelines.pages.words import NONE
from ratchet.pipelines.spec.methods import Kind


@dataclass(frozen=True)
class Column:
    """A column: its heading, and the words of a row's cell."""

    heading: str
    cell: Callable[[Row], str]


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns that have something to say for these rows."""
    several_orders = len({row.order for row in rows}) > 1
    several_models = len({row.model for row in rows}) > 1
    axes = [
        *([Column("order", lambda row: str(row.order))] if several_orders else []),
        *([Column("model", lambda row: row.model)] if several_models else []),
    ]
    measured = [
        column
        for column in MEASURED
        if column.heading == ACCURACY or any(column.cell(row) != NONE for row in rows)
    ]
    return [*axes, *measured]


def markdown(rows: Sequence[Row], title: str, notes: Sequence[str]) -> str:
    """One table in Markdown, with what went wrong below it."""
    columns = columns_of(rows)
    lines = [f"# {title}", "", *notes, ""]
    lines.append("| " + " | ".join(["method", *(column.heading for column in columns)]) + " |")
    lines.append("|" + "---|" * (len(columns) + 1))
    for row in rows:
        cells = [_escaped(cell) for cell in (row.method, *(c.cell(row) for c in columns))]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"Accuracies and their differences in percent; ± is the {INTERVAL_WORDS}."]
    for row in rows:
        lines += [f"- **{row.method}** failed: {_escaped(error)}" for error in row.errors]
    return "\n".join(lines) + "\n"


def sorted_rows(rows: Sequence[Row]) -> list[Row]:
    """Best average accuracy first; what has none last."""

    def key(row: Row) -> tuple[str, int, float]:
        own = row.metrics["average_accuracy"]
        return row.model, row.order, -1.0 if own is None else -own.mean

    present = [row for row in rows if row.num_done]
    return sorted(present, key=key) + [row for row in rows if not row.num_done]


def percent(own: Estimate | None) -> str:
    """`95.03 ± 0.21`, in percent; a dash where it was not measured."""
    return _words(own, words.hundredths)


def _words(own: Estimate | None, write: Callable[[float], str]) -> str:
    return NONE if own is None else own.said(write)


def _mean(own: Estimate | None, write: Callable[[float], str]) -> str:
    return NONE if own is None else write(own.mean)


def _metric(heading: str, name: str, with_task_id: bool = False) -> Column:
    def cell(row: Row) -> str:
        return percent((row.with_task_id if with_task_id else row.metrics)[name])

    return Column(heading, cell)


def _retention(heading: str, name: str, kind: Kind) -> Column:
    write = percent if kind == "classifier" else _perplexity

    def cell(row: Row) -> str:
        return write(row.metrics[name]) if row.kind == kind else NONE

    return Column(heading, cell)


def _perplexity(own: Estimate | None) -> str:
    return _words(own, words.perplexity)


def _cost(heading: str, name: str, write: Callable[[float], str]) -> Column:
    return Column(heading, lambda row: _mean(row.costs[name], write))


def _count(value: float) -> str:
    return words.count(round(value))


def _progress(row: Row) -> str:
    return str(row.num_done) if row.num_done == row.num_runs else f"{row.num_done}/{row.num_runs}"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


ACCURACY = "average accuracy"
MEASURED = (
    _metric(ACCURACY, "average_accuracy"),
    _metric("as served", "average_accuracy_as_served"),
    _metric("with task id", "average_accuracy", with_task_id=True),
    _metric("forgetting", "forgetting"),
    _metric("forgetting with task id", "forgetting", with_task_id=True),
    _metric("learning accuracy", "learning_accuracy"),
    _metric("intransigence", "intransigence"),
    _metric("probe accuracy", "probe_accuracy"),
    _retention("retention", "retention", "classifier"),
    _retention("retention of the base", "retention_before", "classifier"),
    _retention("general perplexity ↓", "retention", "causal_lm"),
    _retention("general perplexity of the base", "retention_before", "causal_lm"),
    _cost("time", "seconds", words.duration),
    _cost("peak memory", "peak_memory_bytes", words.size),
    _cost("parameters added", "parameters_added", _count),
    _cost("bytes added", "bytes_added", words.size),
    Column("seeds", _progress),
)

"""The result of an update for people: matrix, metrics, verdict, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ratchet.pipelines.pages.words import count, duration, hundredths
from ratchet.pipelines.report.served import WAYS

METRIC_WORDS = {
    "average_accuracy": "average accuracy at the end",
    "average_incremental_accuracy": "average accuracy along the way",
    "learning_accuracy": "accuracy of each task when just learned",
    "forgetting": "forgetting (best before the end, minus the end)",
    "backward_transfer": "backward transfer (the end minus just learned)",
    "forward_transfer": "forward transfer (before learning, minus untrained)",
}
PARTS = {
    "within_task": "wrong within the task",
    "other_task": "another task's label",
    "rejected": "rejected",
}
NAMED_COLUMNS = 8
NARROW_COLUMN = 4
LABEL_WIDTH = 20
HEADED: Mapping[str, Any] = MappingProxyType({"show_edge": False, "box": box.SIMPLE_HEAD})


def show_result(result: Mapping[str, Any], console: Console) -> None:
    """Print the result object of an update."""
    tasks = result["tasks"]
    with_id = result.get("with_task_id")
    console.print()
    title = f"Accuracy on test, {'no task id given' if with_id else 'the task id given'}"
    fits = LABEL_WIDTH + NARROW_COLUMN * len(tasks) <= console.width
    table = matrix_table if fits else outline_table
    console.print(f"[bold]{title}[/]" if fits else f"[bold]{title}[/] (all of it is in the report)")
    console.print(table(result["accuracy_matrix"], tasks))
    if result.get("as_served"):
        _show_served(result["as_served"], console)
    console.print("\n[bold]Metrics[/], in percent")
    console.print(_metrics_table(result["metrics"], with_id and with_id["metrics"]))
    _show_verdict(result, console)
    console.print(f"[bold]Report[/]  {escape(result['report'])}", soft_wrap=True)
    console.print(f"[bold]Took[/]    {duration(result['seconds']['total'])}")
    _show_next(result, console)


def matrix_table(matrix: Sequence[Sequence[float | None]], tasks: Sequence[str]) -> Table:
    """An accuracy matrix as a table: a row after each stage, a column a task, in percent.

    Args:
        matrix: Accuracies in [0, 1], [stages, tasks]; None where not measured.
        tasks: Names of the columns.
    """
    by_name = len(tasks) <= NAMED_COLUMNS
    padding = (0, 1) if by_name else (0, 0)
    table = Table(padding=padding, **HEADED)
    table.add_column("after learning", no_wrap=True, max_width=LABEL_WIDTH)
    for place, task in enumerate(tasks):
        header = escape(task) if by_name else str(place + 1)
        table.add_column(header, justify="right", no_wrap=not by_name)
    taught_alone = len(matrix) == len(tasks)
    for stage, row in enumerate(matrix):
        name = tasks[stage] if taught_alone else f"stage {stage + 1}"
        label = Text(f"{stage + 1} {name}", overflow="ellipsis")
        table.add_row(label, *(_cell(value, by_name) for value in row))
    return table


def outline_table(matrix: Sequence[Sequence[float | None]], tasks: Sequence[str]) -> Table:
    """Of a matrix too wide to show: each task when it was learned, at its best, and at the end."""
    table = Table(**HEADED)
    table.add_column("task", no_wrap=True)
    for header in ("just learned", "best", "at the end"):
        table.add_column(header, justify="right")
    for place, task in enumerate(tasks):
        column = [row[place] for row in matrix if row[place] is not None]
        best = max((value for value in column if value is not None), default=None)
        ends = (column[0], best, column[-1]) if column else (None, None, None)
        table.add_row(escape(task), *(_cell(value, True) for value in ends))
    return table


def colour_of(value: float) -> str:
    """A colour for an accuracy in [0, 1]: red below a half, through yellow, to green."""
    return "red" if value < 0.5 else "yellow" if value < 0.8 else "green"


def _cell(value: float | None, wide: bool) -> Text:
    if value is None:
        return Text("·", style="dim")
    text = hundredths(value) if wide else f"{100 * value:.0f}"
    return Text(text, style=colour_of(value))


def _metrics_table(metrics: Mapping[str, Any], with_id: Mapping[str, Any] | None) -> Table:
    table = Table(**HEADED)
    table.add_column("")
    table.add_column("no task id" if with_id else "with task id", justify="right")
    if with_id:
        table.add_column("with task id", justify="right")
    for name, words in METRIC_WORDS.items():
        columns = [metrics, *([with_id] if with_id else [])]
        values = [column.get(name) for column in columns]
        if any(value is not None for value in values):
            table.add_row(words, *map(hundredths, values))
    return table


def _show_served(served: Mapping[str, Any], console: Console) -> None:
    """What requests without a task get: the average, and the task that gets least."""
    average, way = hundredths(served["average_accuracy"]), WAYS[served["answering"]["by"]]
    line = f"{average}% of test rows get their label where no task is named (by {way})"
    console.print(f"\n[bold]As served[/]  {line}", soft_wrap=True)
    if len(served["tasks"]) == 1:
        return
    name, own = min(served["tasks"].items(), key=lambda item: item[1]["accuracy"])
    parts = [f"{hundredths(own[part])} {words}" for part, words in PARTS.items() if own[part] > 0]
    why = f" ({', '.join(parts)})" if parts else ""
    least = f"least on {escape(name)}: {hundredths(own['accuracy'])}{why}"
    console.print(f"           {least}", soft_wrap=True)


def _show_verdict(result: Mapping[str, Any], console: Console) -> None:
    number = result["version"]
    word = "[bold green]promoted[/]" if result["promoted"] else "[bold red]refused[/]"
    console.print(f"\n[bold]Gate[/]    version {number} {word}")
    headline = result["gate"]["headline"]
    console.print(f"        [bold]{escape(headline)}[/]", soft_wrap=True)
    for reason in result["gate"]["reasons"]:
        if reason != headline:
            console.print(f"        {escape(reason)}", soft_wrap=True)


def _show_next(result: Mapping[str, Any], console: Console) -> None:
    lineage, number = result["lineage"], result["version"]
    if result["promoted"]:
        steps = [f"ratchet serve {lineage}", f'ratchet predict {lineage} "some text"']
    else:
        steps = [
            f"ratchet promote {lineage}@{number}   (make it champion all the same)",
            "ratchet methods   (what else holds old tasks)",
        ]
    console.print("[bold]Next[/]    " + escape("\n        ".join(steps)))


def show_scores(found: Mapping[str, Any], console: Console) -> None:
    """Print what `evaluate_version` measured."""
    title = escape(f"{found['lineage']}@{found['version']}")
    console.print(f"[bold]{title}[/], accuracy in percent")
    table = Table(**HEADED)
    table.add_column("task", no_wrap=True)
    for split in ("validation", "test"):
        for header in (f"{split}, as served", "all heads", "task given", "rows"):
            table.add_column(header, justify="right")
    for task, splits in found["scores"].items():
        table.add_row(escape(task), *_split_cells(splits))
    table.add_section()
    table.add_row("average", *_split_cells(found["average"]))
    console.print(table)


def _split_cells(splits: Mapping[str, Any]) -> list[Text]:
    cells: list[Text] = []
    for split in ("validation", "test"):
        own = splits.get(split, {})
        for measure in ("as_served", "without_task_id", "with_task_id"):
            cells.append(_cell(own.get(measure), wide=True))
        cells.append(Text(count(own["num_rows"]) if "num_rows" in own else ""))
    return cells

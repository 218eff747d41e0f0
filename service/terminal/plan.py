"""What an update would do, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.pages.words import count, duration, size

BYTE_WORDS = {
    "learned_weights": "learned weights",
    "method_state": "state of the methods",
    "memory": "remembered text",
    "router": "router",
    "held_out_rows": "held-out rows",
}


def show_plan(planned: Mapping[str, Any], console: Console) -> None:
    """Print what `describe_update` found."""
    for warning in planned["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    console.print(_tasks_table(planned))
    start = f"version {planned['parent']}" if planned["parent"] else "the base model"
    methods = " + ".join(planned["methods"]) or "no method: nothing is protected"
    _line(console, "Start", f"{planned['lineage']} from {start} ({planned['model']})")
    _line(console, "Methods", methods)
    if planned["search"] is not None:
        _line(console, "Search", _search_words(planned["search"]))
    _line(console, "Parameters", _parameter_words(planned["parameters"]))
    sizes = planned["bytes"]
    parts = ", ".join(f"{words} {size(sizes[key])}" for key, words in BYTE_WORDS.items())
    _line(console, "Version", f"about {size(sizes['version'])} on disk: {parts}")
    if "gate" in planned:  # plans that a service kept from before have none
        _line(console, "Gate", _gate_words(planned["gate"]))
    seconds = planned["seconds"]
    parts = ", ".join(
        f"{phase.replace('_', ' ')} {duration(spent)}"
        for phase, spent in seconds["by_phase"].items()
        if spent >= 0.5
    )
    _line(console, "Time", f"about {duration(seconds['estimate'])}: {parts}")
    _line(console, "", f"an estimate from {seconds['basis']}")


def _gate_words(gate: Mapping[str, Any]) -> str:
    """What the gate's rows can tell, by the task that can tell least."""
    limits = (
        f"at most {100 * gate['max_forgetting']:g} points forgotten, "
        f"{100 * gate['max_served_loss']:g} lost as served"
    )
    told = {name: loss for name, loss in gate["loss_told"].items() if loss is not None}
    if not told:
        return limits
    name, loss = max(told.items(), key=lambda item: item[1])
    where = "its rows" if len(told) == 1 else f"the rows of each task, fewest of {name},"
    return f"{limits}; {where} tell losses from {100 * loss:.1f} points on from none"


def _search_words(search: Mapping[str, int]) -> str:
    least, most = search["least"], search["most"]
    number = count(most) if least == most else f"{count(least)} to {count(most)}"
    more = f"{number} trainings more than it takes to teach the tasks"
    return f"{more}; the time is that of {count(most)}"


def _parameter_words(parameters: Mapping[str, Any]) -> str:
    first = parameters["trainable"]["first_stage"]
    later = parameters["trainable"]["later_stages"]
    trainable = f"{count(first)} trainable"
    if later != first:
        trainable += f" in the first task, {count(later)} in later ones"
    return f"{count(parameters['total'])} in all, {trainable}"


def _tasks_table(planned: Mapping[str, Any]) -> Table:
    table = Table(show_edge=False)
    table.add_column("task", no_wrap=True)
    for header in ("labels", "train", "validation", "test", "steps"):
        table.add_column(header, justify="right")
    for task in planned["tasks"]:
        numbers = [len(task["labels"]), task["num_train"], task["num_validation"]]
        steps = f"{count(task['num_steps'])}{' together' if task['taught_with'] else ''}"
        numbers.append(task["num_test"])
        table.add_row(escape(task["name"]), *map(count, numbers), steps)
    table.add_section()
    num_train = sum(task["num_train"] for task in planned["tasks"])
    table.add_row("all", "", count(num_train), "", "", count(planned["num_steps"]))
    return table


def _line(console: Console, name: str, words: str) -> None:
    console.print(f"[bold]{name:<11}[/]{escape(words)}", soft_wrap=True)

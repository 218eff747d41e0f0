"""A study on the terminal: the trials of the front, and the one that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.pages.words import counted, duration, hundredths

if TYPE_CHECKING:
    from ratchet.pipelines.tuning.study import Study
    from ratchet.pipelines.tuning.trial import Trial

MEASURES = ("learning_accuracy", "forgetting", "average_accuracy")


def show_study(study: Study, out: Console) -> None:
    """Print the front, best average accuracy first, and what was chosen and why."""
    names = list(study.tune.parameters)
    table = Table(
        title=f"The front of study {study.name}, on validation rows", title_justify="left"
    )
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for header in (*MEASURES, "time"):
        table.add_column(header.replace("_", " "), justify="right")
    trials = sorted((own.trial for own in study.front), key=_accuracy, reverse=True)
    for trial in trials:
        chosen = study.chosen is not None and trial.number == study.chosen.trial.number
        cells = [str(trial.number), *(escape(str(trial.settings[name])) for name in names)]
        cells += [hundredths(trial.mean(measure)) for measure in MEASURES]
        cells.append(duration(trial.mean("seconds")))
        table.add_row(*cells, style="bold" if chosen else "")
    out.print(table)
    counts = {status: sum(own.status == status for own in study.trials) for status in _STATUSES}
    said = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    saved = f", {duration(study.seconds_saved)} saved by shared first tasks"
    number = counted(len(study.trials), "trial")
    out.print(f"{number} ({said}) in {duration(study.seconds)}{saved}.")
    if study.chosen is None:
        out.print("No trial finished: see the page for what ended each.")
    else:
        chosen = study.chosen
        out.print(f"Chosen: trial {chosen.trial.number}, {escape(chosen.reason)}.")


_STATUSES = ("done", "stopped", "failed")


def _accuracy(trial: Trial) -> float:
    return trial.mean("average_accuracy") or 0.0

"""The report as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.atomic_file import write_atomically
from pipelines.report import words
from pipelines.report.costs import cost_rows, phases
from pipelines.report.curves import curves
from pipelines.report.data import ReportData
from pipelines.report.language import language_rows, measures_of, perplexity_rows, scored
from pipelines.report.scores import heat_rows, metric_rows, scale, task_rows
from pipelines.report.search import search_rows

FILE_NAME = "report.html"


def render(data: ReportData, folder: Path) -> Path:
    """Write the report of an update.

    Args:
        data: What the page shows; every text in it is escaped.
        folder: Where `report.html` goes; made when missing.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_atomically(path, html(data))
    return path


def html(data: ReportData) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("pipelines", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "points": words.points,
        "loss": words.loss,
        "count": words.count,
        "perplexity": words.perplexity,
        "size": words.size,
        "duration": words.duration,
    }
    both = data["accuracy_matrix_with_task_id"]
    return environment.get_template("report.html.j2").render(
        data=data,
        headline=words.headline(data),
        created=words.day(data["created"]),
        heat=heat_rows(data["accuracy_matrix"], data["tasks"]),
        heat_with_task_id=None if both is None else heat_rows(both, data["tasks"]),
        scale=scale(),
        curves=curves(data),
        tasks=task_rows(data),
        all_new=all(task["is_new"] for task in data["tasks"]),
        metrics=metric_rows(data),
        costs=cost_rows(data["tasks"]),
        phases=phases(data["tasks"]),
        scored=scored(data),
        perplexities=perplexity_rows(data),
        language=language_rows(data),
        measures=measures_of(data),
        searched=search_rows(data.get("search", {})),
        total_seconds=sum(data["seconds"].values()),
    )

"""The report as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.pages import words
from ratchet.pipelines.pages.environment import page_environment
from ratchet.pipelines.pages.search import search_rows
from ratchet.pipelines.report.costs import cost_rows, phases
from ratchet.pipelines.report.curves import curves
from ratchet.pipelines.report.data import ReportData
from ratchet.pipelines.report.headline import headline
from ratchet.pipelines.report.language import language_rows, measures_of, perplexity_rows, scored
from ratchet.pipelines.report.scores import heat_rows, metric_rows, scale, task_rows
from ratchet.pipelines.report.served import served_words

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
    environment = page_environment("ratchet.pipelines.report")
    both = data["accuracy_matrix_with_task_id"]
    return environment.get_template("report.html.j2").render(
        data=data,
        headline=headline(data),
        served_words=served_words(data),
        created=words.day(datetime.fromisoformat(data["created"])),
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

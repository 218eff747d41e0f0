"""The sentence at the top of a report."""

from __future__ import annotations

from ratchet.pipelines.pages.words import listed
from ratchet.pipelines.report.data import ReportData


def headline(data: ReportData) -> str:
    """What was learned, and what the gate says became of the rest, in its own words."""
    learned = f"Learned {listed([task['name'] for task in data['tasks'] if task['is_new']])}."
    return f"{learned} {data['verdict']['headline']}"

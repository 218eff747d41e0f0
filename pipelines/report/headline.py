"""The sentence at the top of a report; the gate's own stands below it."""

from __future__ import annotations

from ratchet.pipelines.pages.words import listed
from ratchet.pipelines.report.data import ReportData


def headline(data: ReportData) -> str:
    """What was learned. What became of the rest is the gate's to say."""
    return f"Learned {listed([task['name'] for task in data['tasks'] if task['is_new']])}."

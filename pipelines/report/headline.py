"""The sentence at the top of a report."""

from __future__ import annotations

from ratchet.pipelines.pages.words import listed
from ratchet.pipelines.report.data import ReportData


def headline(data: ReportData) -> str:
    """One or two sentences: what was learned and what became of the rest."""
    learned = f"Learned {listed([task['name'] for task in data['tasks'] if task['is_new']])}."
    held = [c for c in data["verdict"]["comparisons"] if c["before"] is not None]
    lost = [c["task"] for c in held if not c["passed"]]
    if lost:
        return f"{learned} Lost ground on {listed(lost)}."
    if len(data["tasks"]) == 1:
        return f"{learned} The first task of its lineage."
    if not held:
        return learned
    return f"{learned} Kept everything it knew."

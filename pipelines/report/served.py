"""What a report says of requests that name no task."""

from __future__ import annotations

from ratchet.pipelines.pages.words import count, listed, percent
from ratchet.pipelines.report.data import ReportData

WAYS = {
    "heads": "one softmax over the heads of all tasks",
    "routed": "the heads of the task that the router names",
    "prototypes": "the router's class statistics, which training does not touch",
    "mixture": "heads and router statistics, weighed",
}


def served_words(data: ReportData) -> str | None:
    """What answers requests without a task, and what each other way gives; None where none does."""
    served = data.get("as_served")
    if served is None:
        return None
    by, reached = served["answer_by"], served["accuracy"]
    words = f"Requests that name no task are answered by {WAYS[by]}."
    if not reached:
        return words
    others = [f"{percent(value)} by {WAYS[way]}" for way, value in reached.items() if way != by]
    words += (
        f" On {count(served['num_rows'])} validation rows, before any is rejected, that gives the "
        f"right label to {percent(reached[by])}; {listed(others)}."
    )
    if by == "prototypes" or reached[by] <= reached.get("prototypes", 0.0):
        words += " What was taught adds nothing to these statistics here."
    return words

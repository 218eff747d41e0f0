"""A comparison as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ratchet.pipelines.compare import charts
from ratchet.pipelines.compare.record import Comparison
from ratchet.pipelines.compare.summary import Row
from ratchet.pipelines.compare.table import columns_of, percent
from ratchet.pipelines.pages.environment import page_environment
from ratchet.pipelines.pages.estimate import INTERVAL_WORDS, Estimate

FAMILIES = ("baseline", "isolation", "regularization", "head", "replay", "combined")


def html(found: Comparison, rows: Sequence[Row], title: str, training: str) -> str:
    """The page as text.

    Args:
        found: What `comparison.json` holds.
        rows: Its rows, best first.
        title: What was compared.
        training: How the contenders were trained, in words.
    """
    environment = page_environment("ratchet.pipelines.compare")
    first = [row for row in rows if row.order == 0 and row.model == Path(found["model"]).name]
    colours = family_colours(rows)
    return environment.get_template("comparison.html.j2").render(
        title=title,
        headline=headline(first),
        training=training,
        spec=Path(found["spec"]).name,
        scenario=found["scenario"],
        model=Path(found["model"]).name,
        num_done=found["num_done"],
        num_runs=found["num_runs"],
        rows=first,
        columns=columns_of(first),
        colours=colours,
        failures=[(row.method, error) for row in rows for error in row.errors],
        interval=INTERVAL_WORDS,
        has_intervals=found["design"]["num_seeds"] != 1,
        cost=charts.accuracy_against_cost(first, colours),
        plasticity=charts.forgetting_against_plasticity(first, colours),
        bars=charts.accuracies(first, colours),
        orders=charts.panels(
            [row for row in rows if row.model == Path(found["model"]).name],
            lambda row: str(row.order),
            colours,
        ),
        models=charts.panels(
            [row for row in rows if row.order == 0], lambda row: row.model, colours
        ),
    )


def family_colours(rows: Sequence[Row]) -> dict[str, int]:
    """The number of a colour for each family that occurs; the same on every page."""
    present = {row.family for row in rows}
    return {family: index for index, family in enumerate(FAMILIES) if family in present}


def headline(rows: Sequence[Row]) -> str:
    """Which method did best, upper bounds aside, and whether that says anything, in a sentence.

    One leads where its interval over the seeds lies above those of all others.
    """
    done = [
        (row.method, own)
        for row in rows
        if (own := row.metrics["average_accuracy"]) and row.method != "joint"
    ]
    if not done:
        return "Nothing is done yet."
    (best, own), *others = done
    if not others:
        return f"Only {best} is done, with {percent(own)}%."
    ahead = f"{best} is ahead with {percent(own)}%"
    if any(each.half_width is None for _, each in done):
        return f"{ahead}, but one seed is no ground for a claim."
    close = [name for name, other in others if _high(other) >= _low(own)]
    if close:
        return f"{ahead}, but its interval overlaps that of {', '.join(close)}: no claim."
    return f"{best} leads with {percent(own)}%."


def _low(own: Estimate) -> float:
    return own.mean - (own.half_width or 0.0)


def _high(own: Estimate) -> float:
    return own.mean + (own.half_width or 0.0)

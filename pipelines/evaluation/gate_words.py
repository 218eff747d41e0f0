"""What the gate says. Its words follow from what was shown, never from the size of a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ratchet.pipelines.evaluation.paired import rows_to_tell
from ratchet.pipelines.evaluation.row_outcomes import Measure, ServedLoss
from ratchet.pipelines.evaluation.verdict import MeasureComparison, Outcome, TaskComparison

_Judged = tuple[str, MeasureComparison]

_BY_MEASURE: Mapping[Measure, str] = MappingProxyType(
    {"own": "among its own labels", "served": "as `auto` answers it"}
)
_REFUSED: Mapping[tuple[Outcome, Measure], str] = MappingProxyType(
    {
        ("lost", "own"): "Forgot",
        ("lost", "served"): "Served worse",
        ("unsure", "own"): "Not shown to hold",
        ("unsure", "served"): "Not shown to be served as well",
    }
)
"""The headlines of what was refused, the gravest first."""


def told(
    task: str, comparison: MeasureComparison, confidence: float, parts: ServedLoss | None = None
) -> str:
    """One comparison as a sentence: what changed, what that shows, what would settle it.

    Args:
        task: Name of the task.
        comparison: What was compared.
        confidence: Of the interval.
        parts: What became of the rows that were lost, for `served`.
    """
    sentence = f"{change(task, comparison, confidence)}{_shown(comparison, confidence)}."
    if parts is None or not comparison.lost:
        return sentence
    return f"{sentence} {_parts(comparison.lost, parts)}"


def change(task: str, comparison: MeasureComparison, confidence: float) -> str:
    """What changed, without a word on whether it is allowed, as the beginning of a sentence."""
    difference, rows = comparison.lost - comparison.gained, f"{comparison.num_rows} rows"
    name = task if comparison.measure == "own" else f"{task}, {_BY_MEASURE['served']},"
    low, high = comparison.interval
    level = f"{100 * confidence:g} % interval"
    if comparison.spread is not None:
        return _change_of_shares(name, comparison, level)
    if difference > 0:
        size = f"{_number(difference / comparison.num_rows)} points"
        return f"{name} fell by {difference:g} of {rows} ({size}; {level} {_range(low, high)})"
    if difference < 0:
        size = f"{_number(-difference / comparison.num_rows)} points"
        return f"{name} rose by {-difference:g} of {rows} ({size}; {level} {_range(-high, -low)})"
    even = "no row changed"
    if comparison.lost:
        even = f"{comparison.lost:g} lost and as many gained"
    return f"{name} is even on {rows} ({even}; {level} of the loss {_range(low, high)})"


def _change_of_shares(name: str, comparison: MeasureComparison, level: str) -> str:
    """The same of raw text, whose rows are answered in part."""
    low, high = comparison.interval
    rows = f"of the tokens of {comparison.num_rows} rows"
    if comparison.loss < 0:
        size = f"{_number(-comparison.loss)} points"
        return f"{name} rose by {size} {rows} ({level} {_range(-high, -low)})"
    size = f"{_number(comparison.loss)} points"
    return f"{name} fell by {size} {rows} ({level} {_range(low, high)})"


def to_settle(comparison: MeasureComparison, confidence: float) -> str:
    """How many rows would tell a loss of the limit from none; empty where so many are there.

    Rows that change are taken to be as frequent as here, with half a row added to either side
    (Agresti and Min 2005), so that few rows without a change do not promise that none will.
    """
    if not comparison.limit or comparison.spread is not None:
        return ""
    changed = (comparison.lost + comparison.gained + 1) / (comparison.num_rows + 2)
    needed = rows_to_tell(comparison.limit, min(changed, 1.0), confidence)
    if needed <= comparison.num_rows:
        return ""
    about = round(needed, 2 - len(str(needed)))
    return f"; to tell {points(comparison.limit)} from none takes about {about:,} rows"


def missing(task: str) -> str:
    """Of a task that was there before."""
    return f"{task} is missing: it was there before, and the challenger does not have it."


def not_measured(task: str) -> str:
    """Of a task without rows."""
    return f"{task} was not measured on any row, so nothing shows that it works."


def no_anchor(task: str) -> str:
    """Of a task that the champion has and nothing says how well it was known."""
    return f"{task} has no anchor: what it was right on when it was taught is not known."


def rows_changed(task: str, version: int | None) -> str:
    """Of a task whose rows are others than the anchor's."""
    whose = "it was learned" if version is None else f"its anchor, version {version}, answered them"
    return f"the validation rows of {task} changed since {whose}, so nothing shows that it held."


def not_served(task: str) -> str:
    """Of a task that `auto` answered and that nobody asked it for now."""
    return (
        f"{task} was answered by `auto` before and was not measured so now, so nothing shows that "
        "it held."
    )


def below_minimum(task: str, accuracy: float, required: float) -> str:
    """Of a task under `min_accuracy`."""
    return f"{task} reaches {accuracy:.1%} over its own labels, below the required {required:.1%}."


def nothing_measured() -> str:
    """Of a challenger without tasks."""
    return "The challenger was measured on no task, so nothing shows that it works."


def what_was_shown(comparisons: Sequence[TaskComparison], min_accuracy: float) -> tuple[str, ...]:
    """Why a version was promoted: for each measure the task that comes closest to its limit."""
    sentences = []
    for measure in _BY_MEASURE:
        found = [own for own in _judged(comparisons) if own[1].measure == measure]
        if found:
            closest = max(found, key=lambda own: own[1].interval[1])
            among = f"Closest of {len(found)} tasks: " if len(found) > 1 else ""
            sentences.append(f"{among}{closest[1].told}")
    measured = [(own.now.own / own.now.num_rows, own.task) for own in comparisons if own.now]
    accuracy, lowest = min(measured)
    floor = (
        f"The lowest task, {lowest}, reaches {accuracy:.1%} over its own labels; "
        f"{min_accuracy:.1%} is required."
    )
    return (*sentences, floor)


def headline(
    promoted: bool, reasons: Sequence[str], comparisons: Sequence[TaskComparison], confidence: float
) -> str:
    """The whole verdict in one sentence, chosen by the outcomes."""
    if promoted:
        return _headline_of_promoted(comparisons, confidence)
    if any(own.now is None for own in comparisons):
        return next(own.reasons[0] for own in comparisons if own.now is None)
    failed = [own for own in _judged(comparisons) if not own[1].passed]
    for (outcome, measure), words in _REFUSED.items():
        found = [own for own in failed if own[1].outcome == outcome and own[1].measure == measure]
        if found:
            task, worst = max(found, key=lambda own: own[1].loss)
            where = f" on {_names([name for name, _ in found])}" if len(found) > 1 else ""
            settle = to_settle(worst, confidence) if outcome == "unsure" else ""
            return f"{words}{where}: {change(task, worst, confidence)}{settle}."
    return reasons[0]


def points(share: float) -> str:
    """A share of rows in points."""
    return f"{_number(share)} points"


def _headline_of_promoted(comparisons: Sequence[TaskComparison], confidence: float) -> str:
    judged = _judged(comparisons)
    unsure = [own for own in judged if own[1].outcome == "unsure"]
    beyond = [own for own in unsure if own[1].is_above]
    if not any(own.against for own in comparisons):
        return "The first version of the lineage: there is nothing yet to hold."
    if not judged:
        return "Held to no limit: the gate was told to allow any loss."
    if not unsure:
        level = f"{100 * confidence:g} % confidence"
        what = "everything it knew" if _holds_all(comparisons) else "what it was held to"
        return f"Held {what}: a loss is at most {_largest(judged)} ({level})."
    if beyond:
        task, worst = max(beyond, key=lambda own: own[1].loss)
        return f"Promoted unsure, as the gate was told to: {change(task, worst, confidence)}."
    return f"Nothing shows a loss above the limit, and up to {_largest(unsure)} cannot be excluded."


def _judged(comparisons: Sequence[TaskComparison]) -> list[_Judged]:
    return [(own.task, c) for own in comparisons for c in own.judged]


def _holds_all(comparisons: Sequence[TaskComparison]) -> bool:
    """Whether all that was compared has a limit."""
    found = [c for own in comparisons for c in (own.own, own.served) if c is not None]
    return all(c.limit is not None for c in found)


def _largest(judged: Sequence[_Judged]) -> str:
    """The largest upper bound, each measure for itself."""
    found = []
    for measure, words in _BY_MEASURE.items():
        bounds = [(c.interval[1], task) for task, c in judged if c.measure == measure]
        if bounds:
            bound, task = max(bounds)
            found.append(f"{points(max(bound, 0.0))} on {task} {words}")
    return " and ".join(found)


def _shown(comparison: MeasureComparison, confidence: float) -> str:
    """The end of a sentence: what the change shows."""
    if comparison.limit is None:
        return ""
    allowed = f"the {points(comparison.limit)} allowed"
    if comparison.outcome == "held":
        return f", held within {allowed}"
    if comparison.outcome == "lost":
        word = "forgotten" if comparison.measure == "own" else "served worse"
        return f", {word} by more than {allowed}"
    low, high = comparison.interval
    if low > comparison.limit:
        shown = f"the interval lies above {allowed}, as one of so many may by chance"
    elif comparison.is_above:
        shown = f"the estimate is above {allowed}, and chance is not excluded"
    else:
        shown = f"within {allowed}, and up to {points(high)} cannot be excluded"
    return f"; {shown}{to_settle(comparison, confidence)}"


def _parts(lost: float, parts: ServedLoss) -> str:
    kinds = (
        (parts.other_task, "answered with another task's label"),
        (parts.rejected, "rejected"),
        (parts.within_task, "wrong within its task"),
    )
    return f"Of {lost:g} newly wrong: " + ", ".join(f"{n} {kind}" for n, kind in kinds if n) + "."


def _names(names: Sequence[str]) -> str:
    first, others = ", ".join(names[:3]), len(names) - 3
    return f"{first} and {others} more" if others > 0 else first


def _number(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # never -0.0


def _range(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}"

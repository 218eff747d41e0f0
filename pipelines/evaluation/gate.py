"""The gate: the rule that lets a version become champion only when the old abilities held.

Every task is held against its anchor, the rows that were right when it was taught, on the very
same rows; what the rows can show decides, see `docs/gate.md`. What was not measured proves nothing,
so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ratchet.pipelines.evaluation import gate_words as words
from ratchet.pipelines.evaluation.anchors import Anchor
from ratchet.pipelines.evaluation.paired import holm
from ratchet.pipelines.evaluation.row_outcomes import (
    Measure,
    RowOutcomes,
    ServedLoss,
    compare,
    served_loss,
)
from ratchet.pipelines.evaluation.verdict import (
    MeasureComparison,
    Outcome,
    RightRows,
    TaskComparison,
    Verdict,
)
from ratchet.pipelines.spec.update_spec import GateSpec

_MEASURES: tuple[Measure, ...] = ("own", "served")
_Changes = dict[Measure, MeasureComparison]

# Accuracies are counts over rows: one of exactly the minimum must not fail by rounding.
_ROUNDING = 1e-9


def decide(
    challenger: Mapping[str, RowOutcomes],
    champion: Mapping[str, RowOutcomes] | None,
    anchors: Mapping[str, Anchor],
    rule: GateSpec,
    learned: Mapping[str, RowOutcomes] | None = None,
) -> Verdict:
    """Judge a challenger against the anchors of its lineage, task by task.

    The limits are `rule.max_forgetting` for a task among its own labels and `rule.max_served_loss`
    for it as `auto` answers it. Each comparison has one of three outcomes:

    - `held`: the upper bound of the loss, of the two-sided score interval at `rule.confidence`, is
      at most the limit. This is not adjusted for the number of tasks: the promise is that all of
      them held, and it is wrong only if the one test of a task that did not hold is, so its risk is
      that of a single test (intersection-union, Berger 1982).
    - `lost`: the one-sided score test of "the loss is at most the limit" is rejected at
      (1 - confidence) / 2, its p-value adjusted by Holm over all comparisons of this decision that
      have a limit, both measures together. So a challenger of which no loss is above its limit is
      said to have lost anything with at most that probability. For a single comparison it says that
      the lower bound is above the limit.
    - `unsure`: neither; `rule.when_unsure` decides.

    A limit of 1 holds to nothing. Every task needs `rule.min_accuracy` among its own labels.

    Args:
        challenger: Answers of the new version by task.
        champion: Answers of the version that answers now; reported beside, and not judged by. None
            for the first of a lineage.
        anchors: The anchor of every task that the champion knows, by task.
        rule: Limits and confidence.
        learned: Answers of this update's own tasks right after each was learned, for those taught
            before its last stage: they are held too. Where a task has an anchor, that counts.
    """
    champion = champion or {}
    known = {task: Anchor(task, None, own) for task, own in (learned or {}).items()} | dict(anchors)
    changes = _judged(
        {task: _held_to(anchor, challenger.get(task), rule) for task, anchor in known.items()}, rule
    )
    comparisons = tuple(
        _compared(
            _Answers(task, challenger.get(task), champion.get(task), known.get(task)),
            changes.get(task, {}),
            "anchor" if task in anchors else "learned",
            rule,
        )
        for task in dict.fromkeys((*challenger, *known, *champion))
    )
    broken = tuple(reason for own in comparisons for reason in own.reasons)
    if not challenger:
        broken = (words.nothing_measured(), *broken)
    reasons = broken or words.what_was_shown(comparisons, rule.min_accuracy)
    headline = words.headline(not broken, reasons, comparisons, rule.confidence)
    return Verdict(not broken, reasons, comparisons, headline, rule.confidence)


@dataclass(frozen=True)
class _Answers:
    """Who answered the rows of a task."""

    task: str
    challenger: RowOutcomes | None
    champion: RowOutcomes | None
    anchor: Anchor | None


def _compared(
    answers: _Answers, held: _Changes, against: Literal["anchor", "learned"], rule: GateSpec
) -> TaskComparison:
    task, now, anchor = answers.task, answers.challenger, answers.anchor
    lost = None
    if "served" in held and anchor is not None and now is not None:
        lost = served_loss(anchor.outcomes, now)
    told = _told(task, held, rule, lost)
    beside = {} if now is None else _changes(answers.champion, now, rule.confidence)
    beside = _told(task, beside, rule, None)
    broken = [own.told for own in told.values() if not own.passed]
    reasons = (*_faults(answers, rule), *broken)
    return TaskComparison(
        task=task,
        against=None if anchor is None else against,
        now=None if now is None else _right_rows(now),
        own=told.get("own"),
        served=told.get("served"),
        served_loss=lost,
        champion_own=beside.get("own"),
        champion_served=beside.get("served"),
        passed=not reasons,
        reasons=reasons,
    )


def _told(task: str, changes: _Changes, rule: GateSpec, lost: ServedLoss | None) -> _Changes:
    parts: Mapping[Measure, ServedLoss | None] = {"own": None, "served": lost}
    return {
        measure: replace(own, told=words.told(task, own, rule.confidence, parts[measure]))
        for measure, own in changes.items()
    }


def _faults(answers: _Answers, rule: GateSpec) -> list[str]:
    """What is wrong with a task beside what it lost."""
    task, now, anchor = answers.task, answers.challenger, answers.anchor
    if now is None:
        return [words.missing(task)]
    if now.num_rows < 1:
        return [words.not_measured(task)]
    faults = []
    accuracy = _right_rows(now).own / now.num_rows
    if accuracy < rule.min_accuracy - _ROUNDING:
        faults.append(words.below_minimum(task, accuracy, rule.min_accuracy))
    if anchor is None:
        return [*faults, words.no_anchor(task)] if answers.champion is not None else faults
    if anchor.outcomes.rows != now.rows:
        faults.append(words.rows_changed(task, anchor.version))
    elif anchor.outcomes.served is not None and now.served is None and rule.max_served_loss < 1:
        faults.append(words.not_served(task))
    return faults


def _right_rows(outcomes: RowOutcomes) -> RightRows:
    own, served = outcomes.num_right("own"), outcomes.num_right("served")
    assert own is not None, "it is always measured"
    return RightRows(own, served, outcomes.num_rows)


def _held_to(anchor: Anchor, now: RowOutcomes | None, rule: GateSpec) -> _Changes:
    """What changed since the anchor, with the limit of each measure; the outcome is open."""
    limits = {"own": rule.max_forgetting, "served": rule.max_served_loss}
    changes = {} if now is None else _changes(anchor.outcomes, now, rule.confidence)
    return {
        measure: replace(
            own,
            version=anchor.version_of(measure),
            limit=limits[measure] if limits[measure] < 1 else None,
        )
        for measure, own in changes.items()
    }


def _changes(before: RowOutcomes | None, after: RowOutcomes, confidence: float) -> _Changes:
    """What changed by each measure that both were measured by, on the same rows; else nothing."""
    if before is None or before.rows != after.rows or after.num_rows < 1:
        return {}
    return {
        measure: _change(before, after, measure, confidence)
        for measure in _MEASURES
        if measure == "own" or (before.served is not None and after.served is not None)
    }


def _change(
    before: RowOutcomes, after: RowOutcomes, measure: Measure, confidence: float
) -> MeasureComparison:
    pairs = compare(before, after, measure)
    return MeasureComparison(
        measure=measure,
        version=None,
        before=pairs.before,
        after=pairs.before - pairs.lost + pairs.gained,
        lost=pairs.lost,
        gained=pairs.gained,
        num_rows=pairs.num_rows,
        loss=pairs.loss,
        interval=pairs.interval(confidence),
        p=pairs.p_change(),
        spread=pairs.spread,
    )


def _judged(changes: Mapping[str, _Changes], rule: GateSpec) -> Mapping[str, _Changes]:
    """The same with outcomes, all comparisons that have a limit taken together; see `decide`."""
    tests = iter(
        holm(
            [
                own.pairs.p_above(own.limit)
                for of_task in changes.values()
                for own in of_task.values()
                if own.limit is not None
            ]
        )
    )
    return {
        task: {
            measure: own if own.limit is None else _with_outcome(own, own.limit, next(tests), rule)
            for measure, own in of_task.items()
        }
        for task, of_task in changes.items()
    }


def _with_outcome(
    change: MeasureComparison, limit: float, p: float, rule: GateSpec
) -> MeasureComparison:
    outcome: Outcome = "unsure"
    if change.interval[1] <= limit:
        outcome = "held"
    elif p <= (1 - rule.confidence) / 2:
        outcome = "lost"
    allowed = {"estimate": not change.is_above, "refuse": False, "promote": True}
    passed = {"held": True, "lost": False, "unsure": allowed[rule.when_unsure]}[outcome]
    return replace(change, p_above_limit=p, outcome=outcome, passed=passed)

"""What an update is held to: the anchors that its lineage keeps, and what it learned itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ratchet.pipelines.evaluation.anchors import Anchor, next_anchors
from ratchet.pipelines.evaluation.as_served import ServedFindings
from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers
from ratchet.pipelines.evaluation.row_outcomes import RowOutcomes
from ratchet.pipelines.evaluation.scope import ScopeVerdict, judge_scope
from ratchet.pipelines.evaluation.verdict import Verdict
from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.update_spec import GateSpec
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.outcome import Outcome
from ratchet.pipelines.update.judging import rows_hash
from ratchet.pipelines.version import (
    MATRIX_FILE,
    HeldOutTexts,
    read_matrix,
)


@dataclass(frozen=True)
class GateRecord:
    """What a version keeps for the gate of the next one.

    Attributes:
        answers: How it answers the validation rows of its tasks, by name.
        anchors: What each of its tasks is held to, by name.
        rule: The limits that it was held to.
    """

    answers: Mapping[str, RowOutcomes] = field(default_factory=dict)
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    rule: GateSpec = field(default_factory=GateSpec)

    def as_dict(self) -> JsonObject:
        """Plain JSON values."""
        return {
            "answers": {name: own.as_dict() for name, own in self.answers.items()},
            "anchors": {name: own.as_dict() for name, own in self.anchors.items()},
            "rule": self.rule.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class _Kept:
    gate: GateRecord


def read_gate_record(folder: Path) -> GateRecord:
    """What a version keeps for the gate.

    Raises:
        VersionError: It is missing or broken.
    """
    where = str(folder / MATRIX_FILE)
    return checked(_Kept, read_matrix(folder), where, "restore the version from a copy").gate


def judge_update(
    job: UpdateJob,
    texts: Mapping[int, HeldOutTexts],
    outcome: Outcome,
    findings: ServedFindings,
    number: int,
    accepted: Collection[str] = (),
) -> tuple[Verdict, GateRecord]:
    """Hold the version of an update to its limits.

    Args:
        job: The update.
        texts: Held-out rows of every task, by id.
        outcome: What its workers measured.
        findings: What its version answers, loaded from its files.
        number: The version's number.
        accepted: Tasks of which a person accepted a loss when they promoted the version that this
            one grew from: that version's answers are their anchors.

    Returns:
        The verdict, and what the version keeps for the gate of the next one.
    """
    before = GateRecord() if job.parent is None else _moved(job.parent, accepted)
    rule = job.spec.gate
    by = None if findings.as_served is None else findings.as_served.answering.by
    last = job.new[-1].stage
    earlier = {
        task.name: _learned(outcome.learned[task.name], by, rows_hash(texts[task.id]))
        for task in job.new
        if task.stage < last
    }
    champion = None if job.parent is None else before.answers
    verdict = decide(findings.rows, champion, before.anchors, rule, earlier)
    if findings.as_served is not None and findings.as_served.out_of_scope is not None:
        verdict = _with_scope(verdict, judge_scope(findings.as_served.out_of_scope, rule))
    latest = {
        task.name: findings.rows[task.name]
        for task in job.new
        if task.stage == last and task.name in findings.rows
    }
    anchors = next_anchors(before.anchors, findings.rows, number, earlier | latest, rule)
    return refused_for(findings.problems, verdict), GateRecord(findings.rows, anchors, rule)


def _moved(folder: Path, accepted: Collection[str]) -> GateRecord:
    """What a version keeps for the gate, the anchors of some tasks moved to its own answers."""
    kept, number = read_gate_record(folder), int(folder.name)
    known = [name for name in accepted if name in kept.answers]
    own = {name: Anchor(name, number, kept.answers[name]) for name in known}
    return replace(kept, anchors={**kept.anchors, **own})


def _with_scope(verdict: Verdict, found: ScopeVerdict) -> Verdict:
    """A verdict that holds the share of foreign text to its limit too."""
    if found.passed:
        return replace(verdict, reasons=(*verdict.reasons, found.told), out_of_scope=found)
    reasons = (found.told,) if verdict.promoted else (*verdict.reasons, found.told)
    headline = found.told if verdict.promoted else verdict.headline
    return replace(verdict, promoted=False, reasons=reasons, headline=headline, out_of_scope=found)


def _learned(answers: LearnedAnswers, by: str | None, rows: str) -> RowOutcomes:
    """How a task's rows were answered right after it was taught, by the rule that answers now."""
    served = None if by is None else answers.served.get(by)
    if served is None:
        return RowOutcomes(rows, answers.own, None)
    return RowOutcomes(rows, answers.own, served.right, served.other_task, served.rejected)


def refused_for(problems: tuple[str, ...], verdict: Verdict) -> Verdict:
    """A verdict that refuses a version for what was found when it was loaded."""
    if not problems:
        return verdict
    reasons = problems if verdict.promoted else (*problems, *verdict.reasons)
    return replace(verdict, promoted=False, reasons=reasons, headline=problems[0])

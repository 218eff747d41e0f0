"""Held-out rows asked as a caller asks them: by the code that serves, task named and not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.answering.answer import Query, class_logits, what_experts_say
from ratchet.pipelines.answering.served_version import ServedVersion
from ratchet.pipelines.evaluation.answer_choice import answers_by, choose_rule
from ratchet.pipelines.evaluation.answer_experts import Experts
from ratchet.pipelines.evaluation.learned_answers import ServedBits
from ratchet.pipelines.evaluation.served_bits import served_bits
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.spec.update_spec import AnswerByChoice
from ratchet.pipelines.version import HeldOutTexts

ROWS_PER_PASS = 64


@dataclass(frozen=True)
class AskedRows:
    """What a version's experts say of rows of one task.

    Attributes:
        experts: Of the rows, as if no task were named.
        in_scope: The router's in-scope score, [rows].
        own: Place of the label that the task itself gives each row when it is named, [rows].
        labels: Place of the right label in `Choices.names`, [rows].
        num_validation: How many are validation rows; these come first, test rows follow.
    """

    experts: Experts
    in_scope: Tensor
    own: Tensor
    labels: Tensor
    num_validation: int


@dataclass(frozen=True)
class ServedRows:
    """What a caller gets for rows of one task.

    Attributes:
        own: Whether each row is right when the task is named, [rows], bool.
        served: What a request without a task gets.
    """

    own: Tensor
    served: ServedBits


def ask_rows(version: ServedVersion, texts: Mapping[int, HeldOutTexts]) -> dict[int, AskedRows]:
    """Ask a version about held-out rows of its tasks, by task id."""
    places = {name: place for place, name in enumerate(version.choices.names)}
    return {
        task_id: _ask(version, task_id, held, places) for task_id, held in sorted(texts.items())
    }


def num_accepted(version: ServedVersion, texts: Sequence[str]) -> int:
    """How many texts are answered as if they belonged to a task, where none is named."""
    accepted = 0
    for at in range(0, len(texts), ROWS_PER_PASS):
        _, in_scope = what_experts_say(version, texts[at : at + ROWS_PER_PASS])
        accepted += int((in_scope >= version.threshold).sum())
    return accepted


def _ask(
    version: ServedVersion, task_id: int, held: HeldOutTexts, places: Mapping[str, int]
) -> AskedRows:
    texts = [*held.validation, *held.test]
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    passes = [order[at : at + ROWS_PER_PASS] for at in range(0, len(order), ROWS_PER_PASS)]
    parts, scopes = [], []
    for rows in passes:
        experts, in_scope = what_experts_say(version, [texts[row] for row in rows])
        parts.append(experts)
        scopes.append(in_scope)
    back = torch.tensor(order).argsort()
    experts = Experts.joined(parts).rows(back)
    own = _own(version, task_id, texts, passes, back) if version.has_task_features else None
    mine = (version.choices.tasks == task_id).nonzero()[:, 0]
    if own is None:
        own = version.choices.labels[mine[experts.own[:, mine].argmax(dim=1)]]
    labels = torch.tensor([places[label] for label in (*held.validation_labels, *held.test_labels)])
    return AskedRows(experts, torch.cat(scopes)[back], own, labels, len(held.validation))


def _own(
    version: ServedVersion,
    task_id: int,
    texts: Sequence[str],
    passes: Sequence[Sequence[int]],
    back: Tensor,
) -> Tensor:
    """The label that the task gives each row when it is named, where that takes passes of its own.

    Returns:
        Places in `Choices.names`, [rows].
    """
    mine = (version.choices.tasks == task_id).nonzero()[:, 0]
    classes = version.choices.classes[mine]
    best = [
        logits[classes].argmax()
        for rows in passes
        for logits in class_logits([Query(texts[row], version, task_id) for row in rows])
    ]
    return version.choices.labels[mine[torch.stack(best)]][back]


def chosen_rule(
    version: ServedVersion, asked: Mapping[int, AskedRows], answer_by: AnswerByChoice
) -> AnswerRule:
    """The rule that the validation rows of all tasks choose, or the one that is asked for."""
    some = [(rows, slice(0, rows.num_validation)) for rows in asked.values()]
    experts = Experts.joined([rows.experts.rows(held) for rows, held in some])
    labels = torch.cat([rows.labels[held] for rows, held in some])
    return choose_rule(experts, version.choices, labels, answer_by)


def served_rows(
    version: ServedVersion, task_id: int, rows: AskedRows, rule: AnswerRule, some: slice
) -> ServedRows:
    """What a caller gets for some rows of a task under a rule, rejection included."""
    choices = version.choices
    own_labels = choices.labels[choices.tasks == task_id]
    labels, rejected = rows.labels[some], rows.in_scope[some] < version.threshold
    answers = answers_by(rows.experts.rows(some), choices, rule)
    return ServedRows(
        own=rows.own[some] == labels,
        served=served_bits(answers, rejected, labels, own_labels),
    )

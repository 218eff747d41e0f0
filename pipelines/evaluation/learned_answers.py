"""What the rows of a task were answered right after it was taught: what a later end is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ratchet.pipelines.evaluation.answer_choice import DEFAULT, ORDER
from ratchet.pipelines.evaluation.answer_experts import Choices, Experts, pair_log_probs
from ratchet.pipelines.evaluation.flips import pack_right
from ratchet.pipelines.registry.answer_rule import AnswerBy


@dataclass(frozen=True)
class ServedBits:
    """How rows of a task are answered where no task is named, packed by `flips.pack_right`.

    Attributes:
        right: Answered with their label.
        other_task: Answered with a wrong label that their task does not have.
        rejected: Not answered, as text of no task.
    """

    right: str
    other_task: str
    rejected: str


@dataclass(frozen=True)
class LearnedAnswers:
    """The validation rows of a task right after the stage that taught it.

    Attributes:
        own: Right among the task's own labels, packed.
        served: What a request without a task would have got, by each rule; empty where `auto`
            is not served.
    """

    own: str
    served: Mapping[str, ServedBits] = field(default_factory=dict)


def served_bits(
    answers: Tensor, rejected: Tensor, labels: Tensor, own_labels: Tensor
) -> ServedBits:
    """Answers of rows of one task, packed.

    Args:
        answers: Place of the label that each row gets, [rows].
        rejected: Whether it is rejected instead, [rows], bool.
        labels: Place of the right label, [rows].
        own_labels: Places of the labels that the task has, [own].
    """
    right = (answers == labels) & ~rejected
    elsewhere = ~torch.isin(answers, own_labels) & ~rejected
    return ServedBits(
        pack_right(right.tolist()), pack_right(elsewhere.tolist()), pack_right(rejected.tolist())
    )


def served_by_rule(
    experts: Experts,
    choices: Choices,
    rejected: Tensor,
    labels: Tensor,
    own_labels: Tensor,
    rules: Sequence[AnswerBy] = ORDER,
) -> dict[str, ServedBits]:
    """What rows of one task get under each of some rules, the mixture with its default weights."""
    found: dict[str, ServedBits] = {}
    for by in rules:
        if by == "heads" and experts.heads is None:
            continue
        pairs = pair_log_probs(experts, choices, replace(DEFAULT, by=by))
        answers = choices.by_label(pairs).argmax(dim=1)
        found[by] = served_bits(answers, rejected, labels, own_labels)
    return found

"""What requests that name no task get for rows of one task, packed row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ratchet.pipelines.evaluation.answer_choice import DEFAULT, ORDER
from ratchet.pipelines.evaluation.answer_experts import Choices, Experts, pair_log_probs
from ratchet.pipelines.evaluation.flips import pack_right
from ratchet.pipelines.evaluation.learned_answers import ServedBits
from ratchet.pipelines.registry.answer_rule import AnswerBy


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

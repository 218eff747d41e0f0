"""What a version's experts say of a text whose task is not named, and how they speak as one.

Three things in a version know something of such a text: the heads, over each task's own labels; the
router's task statistics; the router's class statistics. Heads that were trained one after another
are not comparable across tasks (their scales never met), so one softmax over all of them is the
fourth expert and seldom the best. All are log-probabilities over the (task, label) pairs of the
version; labels that several tasks share add up under their name.

Source of the product of experts: Hinton 2002, Neural Computation 14(8), with a weight an expert
(Heskes 1998, logarithmic opinion pools).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.models.prototype_router import TEMPERATURE, RouteScores
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.types import Task

NEVER = -torch.inf


@dataclass(frozen=True)
class Choices:
    """Among what a request to `auto` is answered: the (task, label) pairs, numbered as the router.

    Attributes:
        tasks: The task of each pair, [pairs], int64.
        classes: Its class id, [pairs], int64.
        labels: Place of its label in `names`, [pairs], int64.
        names: Every label once, in the order learned.
        num_tasks: Tasks of the version.
        shares_classes: Whether a class id stands for several tasks, as under one shared head.
    """

    tasks: Tensor
    classes: Tensor
    labels: Tensor
    names: tuple[str, ...]
    num_tasks: int
    shares_classes: bool

    @staticmethod
    def of(tasks: Sequence[Task], labels: Sequence[str]) -> Choices:
        """The pairs of some tasks, ids from 0 without gaps; `labels` by class id."""
        pairs = [(task.id, index) for task in tasks for index in task.class_ids]
        names = tuple(dict.fromkeys(labels[index] for _, index in pairs))
        places = {name: place for place, name in enumerate(names)}
        classes = [index for _, index in pairs]
        return Choices(
            tasks=torch.tensor([task for task, _ in pairs]),
            classes=torch.tensor(classes),
            labels=torch.tensor([places[labels[index]] for index in classes]),
            names=names,
            num_tasks=1 + max(task for task, _ in pairs),
            shares_classes=len(set(classes)) < len(classes),
        )

    def by_label(self, pairs: Tensor) -> Tensor:
        """Log-probabilities of labels, [rows, labels], from those of pairs, [rows, pairs]."""
        return group_logsumexp(pairs, self.labels, len(self.names))

    def by_task(self, pairs: Tensor) -> Tensor:
        """Log-probabilities of tasks, [rows, tasks], from those of pairs, [rows, pairs]."""
        return group_logsumexp(pairs, self.tasks, self.num_tasks)


@dataclass(frozen=True)
class Experts:
    """What each expert says, as log-probabilities of pairs, each [rows, pairs], float64.

    Attributes:
        own: log p(label | task, x); -inf for the labels of tasks that were not asked.
        heads: One softmax over all heads; None where features are a task's own, and where it is not
            wanted.
        tasks: log p(task | x) of the pair's task.
        classes: log p(pair | x) of the class statistics.
        best: The task that the router names, [rows].
    """

    own: Tensor
    heads: Tensor | None
    tasks: Tensor
    classes: Tensor
    best: Tensor

    def rows(self, chosen: Tensor | slice) -> Experts:
        """What they say of some rows."""
        heads = None if self.heads is None else self.heads[chosen]
        return Experts(
            self.own[chosen], heads, self.tasks[chosen], self.classes[chosen], self.best[chosen]
        )

    @staticmethod
    def joined(parts: Sequence[Experts]) -> Experts:
        """What they say of several runs of rows."""
        heads = [part.heads for part in parts if part.heads is not None]
        return Experts(
            own=torch.cat([part.own for part in parts]),
            heads=torch.cat(heads) if len(heads) == len(parts) else None,
            tasks=torch.cat([part.tasks for part in parts]),
            classes=torch.cat([part.classes for part in parts]),
            best=torch.cat([part.best for part in parts]),
        )


def experts_of(choices: Choices, scores: RouteScores, logits: Tensor) -> Experts:
    """The experts of rows whose features all tasks share.

    Args:
        choices: The version's pairs.
        scores: What the router says of the rows.
        logits: Of all classes, [rows, classes].
    """
    pairs = logits.double()[:, choices.classes]
    everything = logits.double()[:, choices.classes.unique()].logsumexp(dim=1, keepdim=True)
    heads = pairs - everything
    tasks, classes = _of_router(choices, scores)
    if choices.shares_classes:  # a class is shared out among its tasks, and adds up to itself again
        count = torch.bincount(choices.classes)[choices.classes]
        same = count == choices.num_tasks
        share = torch.where(same, tasks, -count.double().log())
        heads = heads + share
    return Experts(own_log_probs(choices, pairs), heads, tasks, classes, _best(scores))


def experts_asked(
    choices: Choices, scores: RouteScores, asked: Sequence[tuple[int, Tensor, Tensor]]
) -> Experts:
    """The experts of rows whose features are a task's own: only some tasks were asked.

    Args:
        choices: The version's pairs.
        scores: What the router says of the rows.
        asked: Of each task that was asked: its id, the rows [some], and their logits over all
            classes [some, classes].
    """
    own = scores.task_scores.new_full((len(scores.margin), len(choices.tasks)), NEVER).double()
    for task_id, rows, logits in asked:
        mine = (choices.tasks == task_id).nonzero()[:, 0]
        found = logits.double()[:, choices.classes[mine]].log_softmax(dim=1)
        own[rows[:, None], mine[None, :]] = found
    return Experts(own, None, *_of_router(choices, scores), _best(scores))


def own_log_probs(choices: Choices, pairs: Tensor) -> Tensor:
    """Logits of pairs as log-probabilities within each task, [rows, pairs]."""
    return pairs - group_logsumexp(pairs, choices.tasks, choices.num_tasks)[:, choices.tasks]


def pair_log_probs(experts: Experts, choices: Choices, rule: AnswerRule) -> Tensor:
    """How probable each pair is by a rule, [rows, pairs], as log-probabilities."""
    if rule.by == "heads" and experts.heads is not None:
        return experts.heads
    if rule.by == "prototypes":
        return experts.classes
    if rule.by == "mixture":
        return _mixed(experts, rule).log_softmax(dim=1)
    routed = choices.tasks[None, :] == experts.best[:, None]
    return experts.own.masked_fill(~routed, NEVER)


def _mixed(experts: Experts, rule: AnswerRule) -> Tensor:
    parts = [
        (rule.own, experts.own),
        (rule.tasks, experts.tasks),
        (rule.classes, experts.classes),
        (rule.heads, experts.heads),
    ]
    mixed = torch.zeros_like(experts.own)
    for weight, part in parts:
        if weight > 0 and part is not None:
            mixed = mixed + weight * part
    return mixed


def _of_router(choices: Choices, scores: RouteScores) -> tuple[Tensor, Tensor]:
    tasks = scores.task_scores.double()[:, choices.tasks]
    return tasks, (-scores.class_distances.double() / TEMPERATURE).log_softmax(dim=1)


def _best(scores: RouteScores) -> Tensor:
    return scores.task_scores.argmax(dim=1)


def group_logsumexp(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Log of the sum of exp over the members of each group, [rows, groups]; -inf for none.

    Args:
        values: [rows, members].
        groups: The group of each member, [members].
        num_groups: How many there are.
    """
    index = groups.expand(values.shape)
    shape = (values.shape[0], num_groups)
    highest = values.new_full(shape, NEVER).scatter_reduce(1, index, values, "amax")
    anchor = torch.where(highest.isfinite(), highest, torch.zeros_like(highest))
    sums = values.new_zeros(shape).scatter_add(1, index, (values - anchor[:, groups]).exp())
    return anchor + sums.log()

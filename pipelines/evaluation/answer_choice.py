"""Chooses how a version answers requests that name no task, on the validation rows of all tasks."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ratchet.pipelines.evaluation.answer_experts import Choices, Experts, pair_log_probs
from ratchet.pipelines.registry.answer_rule import AnswerBy, AnswerRule
from ratchet.pipelines.spec.update_spec import AnswerByChoice

DEFAULT = AnswerRule("mixture")
"""The weights without any rows, and what few rows are shrunk to."""
PRIOR_ROWS = 20.0
"""How many rows the default weighs as much as: the penalty on a weight's log is this, halved."""
MAX_ROWS = 3000
"""Rows that weights are fitted on, at most, evenly spread: there are four of them."""
ORDER: tuple[AnswerBy, ...] = ("mixture", "prototypes", "routed", "heads")
"""Who goes first among equals: what knows more."""


def choose_rule(
    experts: Experts,
    choices: Choices,
    labels: Tensor,
    answer_by: AnswerByChoice = "auto",
) -> AnswerRule:
    """The rule that answers most validation rows rightly, with the weights of the mixture.

    Rejection is left out: it is the same under every rule. Weights minimise the mean negative
    log-likelihood of the right labels plus a penalty that shrinks few rows' weights to `DEFAULT`.

    Args:
        experts: What the version says of validation rows of all tasks.
        choices: Its pairs.
        labels: Place of each row's label in `choices.names`, [rows].
        answer_by: The one to use, or `auto` for the best; `heads` needs features that all tasks
            share.
    """
    if len(labels) == 0:
        return replace(DEFAULT, by="mixture" if answer_by == "auto" else answer_by)
    fitted = fit_weights(experts, choices, labels)
    accuracy: dict[str, float] = {}
    for by in ORDER:
        if by == "heads" and experts.heads is None:
            continue
        answers = answers_by(experts, choices, replace(fitted, by=by))
        accuracy[by] = float((answers == labels).double().mean())
    best = max(accuracy, key=lambda by: accuracy[by])  # the first of equals
    chosen = next(by for by in ORDER if by == (best if answer_by == "auto" else answer_by))
    rounded = {by: round(value, 6) for by, value in accuracy.items()}
    return replace(fitted, by=chosen, accuracy=rounded, num_rows=len(labels))


def answers_by(experts: Experts, choices: Choices, rule: AnswerRule) -> Tensor:
    """The label that a rule gives each row, as its place in `choices.names`, [rows]."""
    return choices.by_label(pair_log_probs(experts, choices, rule)).argmax(dim=1)


def fit_weights(experts: Experts, choices: Choices, labels: Tensor) -> AnswerRule:
    """A mixture's weights, each positive, by the rows' likelihood; see `choose_rule`."""
    step = max(1, math.ceil(len(labels) / MAX_ROWS))
    some, right = experts.rows(slice(None, None, step)), labels[::step]
    with_heads = some.heads is not None
    defaults = [DEFAULT.own, DEFAULT.tasks, DEFAULT.classes] + [DEFAULT.heads] * with_heads
    start = torch.tensor(defaults, dtype=torch.float64).log()
    logs = start.clone().requires_grad_()
    parts = [part.clamp(min=-1e4) for part in (some.own, some.tasks, some.classes)]
    parts += [] if some.heads is None else [some.heads.clamp(min=-1e4)]
    stacked = torch.stack(parts)

    def loss() -> Tensor:
        pairs = torch.einsum("e,erp->rp", logs.exp(), stacked).log_softmax(dim=1)
        likelihood = choices.by_label(pairs).gather(1, right[:, None]).clamp(min=-50.0).sum()
        return (PRIOR_ROWS / 2 * (logs - start).square().sum() - likelihood) / len(right)

    with torch.enable_grad():
        optimizer = torch.optim.LBFGS([logs], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
    found = logs.detach()
    if not bool(found.isfinite().all()):
        return DEFAULT
    weights = [round(float(weight), 6) for weight in found.exp()]
    return AnswerRule("mixture", *weights[:3], heads=weights[3] if with_heads else 0.0)

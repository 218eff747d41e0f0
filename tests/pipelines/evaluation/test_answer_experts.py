"""Covers `answer_experts`, `answer_choice`, `learned_answers`, `served_bits`,
`registry.answer_rule`."""

from dataclasses import replace

import pytest
import torch

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.answer_choice import DEFAULT, answers_by, choose_rule, fit_weights
from ratchet.pipelines.evaluation.answer_experts import (
    Choices,
    Experts,
    experts_asked,
    experts_of,
    group_logsumexp,
    pair_log_probs,
)
from ratchet.pipelines.evaluation.flips import unpack_right
from ratchet.pipelines.evaluation.served_bits import served_bits, served_by_rule
from ratchet.pipelines.models.prototype_router import TEMPERATURE, RouteScores
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.types import Task

LABELS = ["balance", "transfer", "light", "heat"]
TASKS = (Task(0, "bank", (0, 1)), Task(1, "home", (2, 3)))
SHARED = (Task(0, "films", (0, 1)), Task(1, "books", (0, 1)))


def routed(distances, choices):
    """What a router says of rows whose class distances are known, [rows, pairs]."""
    distances = torch.tensor(distances)
    tasks = group_logsumexp(-distances / TEMPERATURE, choices.tasks, choices.num_tasks)
    tasks = tasks.log_softmax(dim=1)
    best = tasks.exp().topk(2, dim=1).values
    return RouteScores(tasks, distances, best[:, 0] - best[:, 1], -distances.min(dim=1).values)


def test_the_log_sum_of_groups_bears_empty_groups_and_large_values():
    values = torch.tensor([[1000.0, 1000.0, -1000.0, -torch.inf]])
    found = group_logsumexp(values, torch.tensor([0, 0, 1, 3]), 5)
    wanted = [
        [1000.0 + torch.tensor(2.0).log().item(), -1000.0, -torch.inf, -torch.inf, -torch.inf]
    ]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_every_expert_gives_probabilities():
    choices = Choices.of(TASKS, LABELS)
    scores = routed([[5.0, 60.0, 40.0, 90.0], [80.0, 70.0, 20.0, 60.0]], choices)
    experts = experts_of(choices, scores, torch.randn(2, 4) * 3)
    for by in ("heads", "routed", "prototypes", "mixture"):
        pairs = pair_log_probs(experts, choices, AnswerRule(by))
        torch.testing.assert_close(pairs.exp().sum(dim=1), torch.ones(2, dtype=torch.float64))
        for whole in (choices.by_label(pairs), choices.by_task(pairs)):
            torch.testing.assert_close(whole.exp().sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_heads_whose_scales_never_met_lose_against_the_mixture():
    """The second task's logits are larger whatever the text: one softmax always names it."""
    choices = Choices.of(TASKS, LABELS)
    scores = routed([[5.0, 60.0, 300.0, 300.0], [300.0, 300.0, 60.0, 5.0]], choices)
    experts = experts_of(
        choices, scores, torch.tensor([[2.0, -2.0, 9.0, 8.0], [2.0, -2, 8.0, 9.0]])
    )
    assert answers_by(experts, choices, AnswerRule("heads")).tolist() == [2, 3]
    assert answers_by(experts, choices, AnswerRule("mixture")).tolist() == [0, 3]
    assert answers_by(experts, choices, AnswerRule("routed")).tolist() == [0, 3]


def test_labels_that_tasks_share_add_up_under_their_name():
    choices = Choices.of(SHARED, LABELS[:2])
    assert choices.names == ("balance", "transfer")
    assert choices.shares_classes
    # Each task prefers `transfer` a little less than `balance` of the other task alone.
    scores = routed([[100.0, 0.0, 400.0, 10.0]], choices)
    logits = torch.tensor([[1.0, 0.0]])
    experts = experts_of(choices, scores, logits)
    heads = choices.by_label(pair_log_probs(experts, choices, AnswerRule("heads")))
    torch.testing.assert_close(heads, logits.double().log_softmax(dim=1))
    prototypes = pair_log_probs(experts, choices, AnswerRule("prototypes")).exp()[0]
    by_label = choices.by_label(prototypes[None].log()).exp()[0]
    assert float(by_label[1]) == pytest.approx(float(prototypes[1] + prototypes[3]))


def test_tasks_that_were_not_asked_give_no_answer():
    choices = Choices.of(TASKS, LABELS)
    scores = routed([[5.0, 60.0, 40.0, 90.0], [80.0, 70.0, 20.0, 60.0]], choices)
    asked = [(1, torch.tensor([1]), torch.tensor([[9.0, 9.0, 0.0, 1.0]]))]
    asked += [(0, torch.tensor([0]), torch.tensor([[0.0, 1.0, 9.0, 9.0]]))]
    experts = experts_asked(choices, scores, asked)
    assert experts.heads is None
    pairs = pair_log_probs(experts, choices, AnswerRule("mixture")).exp()
    assert pairs[0, 2:].tolist() == [0, 0]
    assert pairs[1, :2].tolist() == [0, 0]
    torch.testing.assert_close(pairs.sum(dim=1), torch.ones(2, dtype=torch.float64))


def some_rows(number, router_noise, head_bias, seed=0):
    """Experts of rows of two tasks: the router knows the task but for noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (number,), generator=generator)
    choices = Choices.of(TASKS, LABELS)
    distances = 200 + router_noise * torch.randn(number, 4, generator=generator)
    distances[torch.arange(number), labels] -= 60
    logits = torch.randn(number, 4, generator=generator)
    logits[torch.arange(number), labels] += 2
    logits[:, 2:] += head_bias
    return choices, experts_of(choices, routed(distances.tolist(), choices), logits), labels


@pytest.mark.parametrize("head_bias", [0.0, 12.0])
@pytest.mark.parametrize("router_noise", [5.0, 60.0, 400.0])
def test_the_chosen_rule_is_never_worse_on_its_rows_than_the_best_expert(router_noise, head_bias):
    choices, experts, labels = some_rows(300, router_noise, head_bias)
    rule = choose_rule(experts, choices, labels)
    assert rule.num_rows == 300
    assert rule.accuracy[rule.by] == max(rule.accuracy.values())
    for by, accuracy in rule.accuracy.items():
        found = answers_by(experts, choices, replace(rule, by=by)) == labels
        assert float(found.double().mean()) == pytest.approx(accuracy, abs=1e-6)


def test_weights_follow_who_knows_more():
    choices, experts, labels = some_rows(600, 400.0, 0.0)
    blind = fit_weights(experts, choices, labels)
    choices, experts, labels = some_rows(600, 5.0, 12.0)
    sharp = fit_weights(experts, choices, labels)
    assert sharp.classes > blind.classes
    assert sharp.heads < blind.heads


def test_few_rows_leave_the_weights_near_the_default():
    choices, experts, labels = some_rows(600, 400.0, 0.0)
    many = fit_weights(experts, choices, labels)
    few = fit_weights(experts.rows(slice(0, 3)), choices, labels[:3])
    assert abs(few.classes - DEFAULT.classes) < abs(many.classes - DEFAULT.classes)
    assert abs(few.classes - DEFAULT.classes) < 0.4
    none = choose_rule(experts.rows(slice(0, 0)), choices, labels[:0])
    assert none == replace(DEFAULT, by="mixture")


def test_a_rule_that_is_asked_for_is_used_and_the_others_are_reported():
    choices, experts, labels = some_rows(200, 60.0, 12.0)
    rule = choose_rule(experts, choices, labels, "heads")
    assert rule.by == "heads"
    assert rule.accuracy["heads"] < rule.accuracy["mixture"]


def test_a_rule_is_read_as_it_was_written():
    rule = AnswerRule("mixture", 0.5, 2.0, 0.25, 0.125, {"mixture": 0.75}, 40)
    assert AnswerRule.from_dict(rule.as_dict(), "here") == rule
    with pytest.raises(VersionError, match="here is broken: by"):
        AnswerRule.from_dict({"by": "guess"}, "here")


def test_served_rows_are_right_elsewhere_rejected_or_wrong_within_their_task():
    answers, rejected = torch.tensor([0, 2, 1, 0]), torch.tensor([False, False, False, True])
    labels, own = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1])
    bits = served_bits(answers, rejected, labels, own)
    assert unpack_right(bits.right).tolist() == [True, False, False, False]
    assert unpack_right(bits.other_task).tolist() == [False, True, False, False]
    assert unpack_right(bits.rejected).tolist() == [False, False, False, True]


def test_every_rule_that_applies_says_what_rows_would_have_got():
    choices, experts, labels = some_rows(40, 5.0, 12.0)
    mine = labels < 2
    some = experts.rows(mine)
    nobody = torch.zeros(int(mine.sum()), dtype=torch.bool)
    found = served_by_rule(some, choices, nobody, labels[mine], torch.tensor([0, 1]))
    assert set(found) == {"mixture", "prototypes", "routed", "heads"}
    assert unpack_right(found["prototypes"].right).mean() > 0.9
    assert unpack_right(found["heads"].other_task).mean() > 0.9
    without = Experts(some.own, None, some.tasks, some.classes, some.best)
    assert "heads" not in served_by_rule(
        without, choices, nobody, labels[mine], torch.tensor([0, 1])
    )

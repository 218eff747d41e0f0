import pytest

from ratchet.pipelines.spec.tune import ChooseSpec
from ratchet.pipelines.tuning.choice import choose
from tests.pipelines.tuning.trials import failed, trial

FOUND = [
    trial(0, 0.95, 0.30, average=0.80),
    trial(1, 0.90, 0.05, average=0.86),
    trial(2, 0.70, 0.01, average=0.69),
    trial(3, 0.60, 0.01, average=0.99),  # dominated, whatever its average
    trial(4, 0.65, 0.00, average=0.65),
    trial(5, 0.99, 0.00, average=0.99, status="stopped"),
    failed(6),
]


@pytest.mark.parametrize(
    ("rule", "number", "words"),
    [
        ({"rule": "average_accuracy"}, 1, "the highest average accuracy on the front, 86.0%"),
        ({"rule": "knee"}, 1, "of 4 trials on the front the furthest from its ends"),
        (
            {"rule": "bounded_forgetting"},
            2,
            "70.0%, among the 3 of 5 finished trials that forget at most 2.0 points",
        ),
        ({"rule": "bounded_forgetting", "max_forgetting": 0.05}, 1, "among the 4 of 5"),
        ({"rule": "bounded_forgetting", "max_forgetting": 0}, 4, "65.0%, among the 1 of 5"),
    ],
)
def test_a_rule_takes_its_trial_and_says_why(rule, number, words):
    choice = choose(FOUND, ChooseSpec(**rule))
    assert choice.trial.number == number
    assert words in choice.reason
    assert choice.as_dict()["rule"] == rule["rule"]


def test_where_none_is_within_the_bound_the_least_forgetting_is_taken_and_it_says_so():
    found = [trial(0, 0.9, 0.3), trial(1, 0.8, 0.2), trial(2, 0.85, 0.2)]
    choice = choose(found, ChooseSpec(rule="bounded_forgetting"))
    assert choice.trial.number == 2
    assert choice.reason.startswith(
        "no trial forgets at most 2.0 points; this one forgets least, 20.0"
    )


def test_a_mean_on_the_bound_is_within_it():
    seeds = trial(0, [0.9] * 3, [0.01, 0.02, 0.03]), trial(1, 0.5, 0.0)
    assert choose(seeds, ChooseSpec(rule="bounded_forgetting")).trial.number == 0


def test_what_cannot_forget_is_within_the_bound():
    found = [trial(0, 0.7, None, average=0.7), trial(1, 0.8, None, average=0.8)]
    choice = choose(found, ChooseSpec(rule="bounded_forgetting"), ("plasticity",))
    assert choice.trial.number == 1


@pytest.mark.parametrize("rule", ["average_accuracy", "knee", "bounded_forgetting"])
def test_equals_go_to_the_lower_number_and_nothing_to_nobody(rule):
    found = [trial(3, 0.9, 0.0), trial(1, 0.9, 0.0), trial(2, 0.9, 0.0)]
    assert choose(found, ChooseSpec(rule=rule)).trial.number == 1
    assert choose([failed(0)], ChooseSpec(rule=rule)) is None

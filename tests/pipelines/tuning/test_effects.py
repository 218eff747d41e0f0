import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ratchet.pipelines.spec.tune import ChoiceRange, IntRange, LogRange
from ratchet.pipelines.tuning.effects import effects, rank_correlation, ranks
from tests.pipelines.tuning.trials import RATE, failed, trial

ORDER = "methods.replay.selection"
BOTH = ("plasticity", "stability")
RATES = {RATE: LogRange(log=(1e-5, 1e-1))}
CHOICES = {ORDER: ChoiceRange(choice=("fifo", "herding"))}


def with_rate(plasticities):
    return [
        trial(number, own, 0.1, settings={RATE: 10.0**-number})
        for number, own in enumerate(plasticities)
    ]


def test_ties_share_the_mean_of_their_ranks():
    assert ranks([30, 10, 30, 20, 30]).tolist() == [4.0, 1.0, 4.0, 2.0, 4.0]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20).filter(
        lambda pairs: all(len(set(side)) > 1 for side in zip(*pairs, strict=True))
    )
)
def test_the_rank_correlation_is_spearmans(pairs):
    one, other = zip(*pairs, strict=True)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_a_number_that_lifts_an_objective_is_seen():
    found = effects(with_rate([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]), RATES, BOTH)
    plasticity, stability = found
    assert plasticity.rank_correlation == 1.0
    assert plasticity.chance < 0.01
    assert plasticity.claim == "gets better as it grows: rank correlation +1.00"
    assert (stability.rank_correlation, stability.claim) == (None, "no effect: all the same")


def test_a_weak_link_is_not_claimed():
    plasticity = effects(with_rate([0.5, 0.9, 0.4, 0.8, 0.3, 0.7]), RATES, BOTH)[0]
    assert plasticity.rank_correlation == pytest.approx(1 - 6 * 28 / 210)
    assert plasticity.chance > 0.05
    assert plasticity.claim == "no clear effect: rank correlation +0.20"


def test_below_six_finished_trials_nothing_is_claimed():
    trials = [*with_rate([0.9, 0.8, 0.7, 0.6, 0.5]), failed(8), failed(9)]
    own = effects(trials, RATES, BOTH)[0]
    assert (own.num_trials, own.rank_correlation, own.chance) == (5, None, None)
    assert own.claim == "5 finished trials are too few to say"


@pytest.mark.parametrize(("lift", "claim"), [(0.3, "best with herding"), (0.0, "no clear effect")])
def test_a_choice_has_a_mean_by_value(lift, claim):
    found = [
        trial(
            number,
            0.5 + 0.01 * (number // 2) + lift * (number % 2),
            0.1,
            settings={ORDER: ("fifo", "herding")[number % 2]},
        )
        for number in range(8)
    ]
    own = effects(found, CHOICES, ("plasticity",))[0]
    assert [(mean.value, mean.num_trials) for mean in own.by_value] == [("fifo", 4), ("herding", 4)]
    assert own.by_value[1].mean == pytest.approx(0.515 + lift)
    assert own.claim == claim
    assert own.rank_correlation is None


def test_a_choice_may_be_anything_yaml_can_say():
    values = [None, True, [1, 2], {"rank": 4}, 0.5, "x"]
    found = [trial(n, 0.1 * n, 0.1, settings={ORDER: own}) for n, own in enumerate(values)]
    own = effects(found, CHOICES, ("plasticity",))[0]
    assert sorted(mean.mean for mean in own.by_value) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(own.as_dict()["by_value"]) == 6


def test_chance_does_not_change_between_calls():
    found = with_rate([0.5, 0.9, 0.4, 0.8, 0.3, 0.7])
    ranges = {RATE: IntRange(int=(1, 9))}
    assert effects(found, ranges, BOTH) == effects(found, ranges, BOTH)

import math

import pytest

from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.search.sampler import Sampler
from ratchet.pipelines.tuning.trial import SeedResult, Trial

CONTINUOUS = {"rate": {"log": [1e-5, 1e-1]}, "share": {"uniform": [0.0, 1.0]}}
FINITE = {"rate": {"log": [1e-5, 1e-3], "points": 3}, "way": {"choice": ["a", "b"]}}
ALGORITHMS = ["random", "tpe", "nsga2", "gp"]


def sampler(algorithm="tpe", parameters=None, **options):
    tune = {"algorithm": algorithm, "parameters": parameters or CONTINUOUS, **options}
    return Sampler(TuneSpec.model_validate(tune))


def ended(number, settings, plasticity=0.5, stability=-0.5, status="done"):
    metrics = {"learning_accuracy": plasticity, "forgetting": -stability}
    seeds = (SeedResult(0, metrics, {}, (), (), 1.0),) if status == "done" else ()
    return Trial(number, settings, status, seeds)


def drawn(own, measure, num_trials=None):
    """The trials of a whole search in which `measure` answers."""
    found = []
    while num_trials is None or len(found) < num_trials:
        number, settings = own.num_asked, own.ask()
        if settings is None:
            break
        found.append(ended(number, settings, *measure(settings)))
        own.tell(found[-1])
    return found


def trade(settings):
    """Two objectives whose front is `share` at the one best rate."""
    miss = abs(math.log10(settings["rate"]) + 3) / 4
    return settings["share"] - miss, -settings["share"] - miss


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "grid"])
def test_no_settings_are_tried_twice_and_a_small_space_is_exhausted(algorithm):
    found = drawn(sampler(algorithm, FINITE, num_trials=50), lambda _: (0.5, -0.5))
    keys = {tuple(trial.settings.items()) for trial in found}
    assert len(keys) == len(found)
    assert len(found) == 6
    assert [trial.number for trial in found] == list(range(6))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_budget_ends_a_search_and_every_value_lies_in_its_range(algorithm):
    found = drawn(sampler(algorithm, num_trials=12), trade)
    assert len(found) == 12
    for trial in found:
        assert 1e-5 <= trial.settings["rate"] <= 1e-1
        assert 0 <= trial.settings["share"] <= 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_and_answers_draw_the_same_trials_and_another_seed_others(algorithm):
    one, two, other = (
        [trial.settings for trial in drawn(sampler(algorithm, seed=seed), trade, 12)]
        for seed in (0, 0, 1)
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_sampler_that_is_told_of_earlier_trials_goes_on_with_others(algorithm):
    before = drawn(sampler(algorithm, num_trials=14), trade, 10)
    again = sampler(algorithm, num_trials=14)
    again.know(before, {})
    after = drawn(again, trade)
    assert [trial.number for trial in after] == list(range(10, 14))
    keys = {tuple(trial.settings.items()) for trial in (*before, *after)}
    assert len(keys) == 14


@pytest.mark.parametrize(("algorithm", "num_trials"), [("tpe", 40), ("gp", 14)])
def test_a_search_that_learns_looks_where_the_front_is(algorithm, num_trials):
    def misses(algorithm):
        found = [
            trial
            for s in range(3)
            for trial in drawn(sampler(algorithm, num_trials=num_trials, seed=s), trade)
        ]
        late = [trial for trial in found if trial.number >= num_trials // 2]
        return sum(abs(math.log10(trial.settings["rate"]) + 3) for trial in late) / len(late)

    assert misses(algorithm) < 0.8 * misses("random")


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_trials_without_a_result_teach_nothing_and_harm_nothing(status):
    own = sampler(num_trials=12)
    for number in range(12):
        settings = own.ask()
        assert settings is not None
        own.tell(ended(number, settings, status=status))
    assert own.ask() is None


def test_what_was_best_before_is_tried_first_and_counts_as_tried():
    tune = TuneSpec.model_validate({"parameters": FINITE, "num_trials": 50})
    first = [{"rate": 1e-4, "way": "b"}, {"rate": 1e-3, "way": "a"}]
    own = Sampler(tune, seed_settings=first)
    found = drawn(own, lambda _: (0.5, -0.5))
    assert [trial.settings for trial in found[:2]] == first
    assert len(found) == 6


def test_trials_that_have_begun_are_not_drawn_again():
    for seed in range(20):
        own = sampler("random", {"way": {"choice": ["a", "b", "c"]}}, num_trials=3, seed=seed)
        own.know([], {0: {"way": "b"}})
        assert own.num_asked == 1
        assert {trial.settings["way"] for trial in drawn(own, lambda _: (0.5, -0.5))} == {"a", "c"}


def test_a_warm_start_keeps_to_the_space():
    earlier = [{"rate": 0.5, "way": "a"}, {"rate": "auto", "way": "a"}, {"rate": 1e-3, "way": "b"}]
    tune = TuneSpec.model_validate({"parameters": FINITE, "num_trials": 50})
    assert Sampler(tune, seed_settings=earlier).ask() == earlier[2]


def test_a_grid_that_goes_on_with_more_trials_repeats_none_and_ends_whole():
    parameters = {"rate": {"log": [1e-5, 1e-3], "points": 5}, "share": {"int": [1, 6]}}
    found = drawn(sampler("grid", parameters, num_trials=24), lambda _: (0.5, -0.5))
    assert len(found) == 24
    again = sampler("grid", parameters)
    assert again.size == 30
    again.know(found[:-2], {trial.number: trial.settings for trial in found[-2:]})
    rest = drawn(again, lambda _: (0.5, -0.5))
    assert [trial.number for trial in rest] == list(range(24, 30))
    assert len({tuple(trial.settings.values()) for trial in (*found, *rest)}) == 30


def test_a_budget_is_24_unless_a_grid_has_an_end():
    assert sampler("gp").size == 24
    assert sampler("grid", {"share": {"int": [1, 100]}}).size == 100
    assert sampler("grid", {"share": {"int": [1, 100]}}, num_trials=7).size == 7


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "grid"])
def test_a_huge_range_of_whole_numbers_is_searched_without_being_written_out(algorithm):
    parameters = {"rows": {"int": [1, 10**9]}, "few": {"int": [3, 9]}}

    def measure(settings):
        return settings["rows"] / 10**9, -settings["few"] / 9

    found = drawn(sampler(algorithm, parameters, num_trials=9), measure)
    assert len(found) == 9
    for trial in found:
        assert isinstance(trial.settings["rows"], int)
        assert 1 <= trial.settings["rows"] <= 10**9
        assert trial.settings["few"] in range(3, 10)
    again = sampler(algorithm, parameters, num_trials=12)
    again.know(found, {})
    assert len(drawn(again, measure)) == 3

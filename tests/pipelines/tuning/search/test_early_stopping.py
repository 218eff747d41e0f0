"""Covers, beside `early_stopping`: `ray_search`.

What early stopping warns of, and what it hears again of trials that ended before.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from ratchet.pipelines.tuning.search.early_stopping import reports_of, warnings_of
from ratchet.pipelines.tuning.search.ray_search import scheduler_of
from ratchet.pipelines.tuning.search.study_run import _cut_short
from ratchet.pipelines.tuning.search.trial_run import ACCURACY, STAGES_DONE
from tests.integration.studies import raw_spec, studied
from tests.pipelines.tuning.trials import failed, measured, study, trial

SERVED = {"early_stopping": "asha"}


def warned(num_stages=4, **tune):
    return warnings_of(study([], **SERVED | tune).tune, num_stages)


@pytest.mark.parametrize(
    "tune",
    [
        {"early_stopping": None, "objectives": ["cost"]},
        {},
        {"choose": {"rule": "knee"}},
        {"num_stages": 3},
        {"num_stages": 2, "num_seeds": 2},
    ],
)
def test_there_is_nothing_to_say_where_average_accuracy_serves(tune):
    assert warned(**tune) == []


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"choose": {"rule": "bounded_forgetting"}}, "tune.choose.rule is bounded_forgetting"),
        ({"objectives": ["plasticity", "stability", "cost"]}, "cost is among tune.objectives"),
        ({"objectives": ["stability"]}, "plasticity is not among tune.objectives"),
        ({"num_stages": 2}, "never stops a trial of this study"),
        ({"num_stages": 1, "num_seeds": 3}, "never stops a trial of this study"),
        ({"num_trials": 1}, "it has one trial"),
        ({"strategy": "stability_decay"}, "it has one trial"),
    ],
)
def test_it_says_so_where_early_stopping_does_not_serve(tune, said):
    (text,) = warned(**tune)
    assert said in text
    assert "emove it" in text


def with_rows(number, *rows, num_past=0, **changes):
    seed = replace(measured(0, 0.9, 0.1, average=0.55), accuracy_matrix=rows, num_past=num_past)
    return replace(trial(number, 0.9, 0.1), seeds=(seed,), **changes)


def test_what_a_trial_reported_is_read_off_its_matrix():
    rows = ((0.8, 0.1, 0.1), (0.6, 0.4, None), (0.5, 0.4, 0.3))
    assert reports_of(with_rows(0, *rows), [1, 2, 3]) == [
        (1, 0.8),
        (2, 0.5),
        (3, pytest.approx(0.4)),
        (4, 0.55),  # the average accuracy, over seeds
    ]
    stopped = with_rows(0, *rows[:2], status="stopped")
    assert reports_of(stopped, [1, 2, 3]) == [(1, 0.8), (2, 0.5)]
    assert reports_of(failed(0), [1, 2]) == []
    # On top of a champion its row comes first, and nobody reported that.
    later = with_rows(0, (0.9, 0.0, 0.0), (0.7, 0.5, 0.1), num_past=1, status="stopped")
    assert reports_of(later, [2, 3]) == [(1, pytest.approx(0.6))]


class FakeJob(SimpleNamespace):
    """A stream of four tasks, one a stage."""

    stages = ((0,), (1,), (2,), (3,))
    num_past = 0


def base():
    return SimpleNamespace(job=FakeJob(), num_tasks=None)


def after_two_stages(scheduler, accuracy):
    later = SimpleNamespace(trial_id="later")
    scheduler.on_trial_add(None, later)
    return scheduler.on_trial_result(None, later, {STAGES_DONE: 2, ACCURACY: accuracy})


def test_a_study_that_goes_on_holds_trials_against_those_that_ended_before():
    ended = [
        with_rows(0, (0.9,), (0.8, 0.8), (0.7,) * 3, (0.6,) * 4),
        with_rows(1, (0.9,), (0.4, 0.4), status="stopped"),
        failed(2),
    ]
    # Half are gone on with: the median after two stages is 0.6.
    goes_on, stops = TrialScheduler.CONTINUE, TrialScheduler.STOP
    assert after_two_stages(scheduler_of("asha", base(), ended), 0.59) == stops
    assert after_two_stages(scheduler_of("asha", base(), ended), 0.61) == goes_on
    assert after_two_stages(scheduler_of("asha", base(), []), 0.59) == goes_on
    assert after_two_stages(scheduler_of(None, base(), ended), 0.59) == goes_on


@pytest.mark.parametrize(("error", "status"), [(None, "stopped"), ("died", "failed")])
def test_a_trial_that_is_cut_short_keeps_what_it_measured(error, status):
    seeds = (measured(0, 0.9, 0.1),)
    found = _cut_short(3, {}, {STAGES_DONE: 2, ACCURACY: 0.5}, error, seeds)
    assert (found.status, found.seeds) == (status, seeds)


def test_a_study_says_so_before_its_first_trial(tiny_model, tmp_path):
    rates = {"parameters": {"training.learning_rate": {"choice": [1e-3, 1e-2]}}}
    tune = rates | SERVED | {"num_tasks": 2, "max_seconds": 1e-9}  # there is no time for a trial
    found, _, lines = studied(raw_spec(tiny_model, tmp_path, tune), tmp_path)
    assert any("never stops a trial of this study" in own for own in found.warnings)
    assert any(line.startswith("warning: tune.early_stopping") for line in lines)

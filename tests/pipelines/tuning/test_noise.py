import numpy as np
import pytest

from ratchet.pipelines.tuning.noise import by_noise, noise, standing
from ratchet.pipelines.tuning.page.page import html, unsure
from tests.pipelines.tuning.trials import failed, measured, study, trial

BOTH = ("plasticity", "stability")
LIFT = [0.0, 0.05, 0.1, 0.15]


def test_what_seeds_shift_alike_stays_in_order():
    """Paired draws: each trial swings by 15 points, and yet the better one is better in each."""
    found = [trial(0, [0.80 + own for own in LIFT], [0.1] * 4)]
    found.append(trial(1, [0.79 + own for own in LIFT], [0.1] * 4))
    assert noise(found, BOTH).on_front == {0: 1.0, 1: 0.0}


def test_what_ran_other_seeds_is_drawn_apart():
    found = [trial(0, [0.80 + own for own in LIFT], [0.1] * 4)]
    seeds = tuple(measured(seed + 10, 0.79 + own, 0.1) for seed, own in enumerate(LIFT))
    found.append(trial(1, 0.0, 0.1, seeds=seeds))
    share = noise(found, BOTH).on_front[1]
    assert 0.25 < share < 0.5


def test_the_share_of_two_seeds_is_that_of_either():
    """Of two seeds each draw takes one: the trials win in turns."""
    found = [trial(0, [0.9, 0.5], [0.1, 0.1]), trial(1, [0.6, 0.7], [0.1, 0.1])]
    shares = noise(found, BOTH, num_resamples=4000).on_front
    assert shares[0] == pytest.approx(0.5, abs=0.03)
    assert shares[0] + shares[1] == pytest.approx(1.0)


def test_resampled_means_spread_as_the_mean_of_the_seeds_does():
    """One against a bar: the share above it is the normal tail of the standard error."""
    values = [float(own) for own in np.random.default_rng(1).normal(0.5, 0.1, size=30)]
    error = np.std(values, ddof=1) / np.sqrt(30)
    bar = float(np.mean(values) + error)
    found = [trial(0, values, [0.1] * 30), trial(1, [bar] * 30, [0.1] * 30)]
    share = noise(found, ("plasticity",), num_resamples=20_000).on_front[0]
    assert share == pytest.approx(0.1587, abs=0.015)


def test_the_same_seed_gives_the_same_answer():
    found = [trial(0, [0.9, 0.5, 0.6], [0.1] * 3), trial(1, [0.6, 0.7, 0.8], [0.1] * 3)]
    assert noise(found, BOTH, seed=3) == noise(found, BOTH, seed=3)
    assert noise(found, BOTH, seed=3).on_front != noise(found, BOTH, seed=4).on_front


def test_trials_that_ended_early_do_not_compete():
    found = [trial(0, [0.5, 0.6], [0.1, 0.1]), trial(1, [0.9, 0.9], [0, 0], status="stopped")]
    assert noise([*found, failed(2)], BOTH).on_front == {0: 1.0}


def test_with_one_seed_noise_is_unknown_and_said_to_be():
    known = noise([trial(0, 0.5, 0.1), trial(1, 0.6, 0.1)], BOTH)
    assert known.on_front is None
    assert known.intervals[0] == {"plasticity": None, "stability": None}
    assert "how much of the front is noise is not known" in known.summary


def test_one_trial_of_a_single_seed_leaves_noise_unknown():
    known = noise([trial(0, 0.5, 0.1), trial(1, [0.6, 0.7], [0.1, 0.1])], BOTH)
    assert known.on_front is None
    assert known.summary.startswith("1 of 2 finished trials have fewer than two seeds")


def test_nothing_finished_has_no_noise():
    assert noise([failed(0)], BOTH).summary == "No trial finished, so there is no front."


def test_an_interval_is_students_on_both_sides_and_turns_with_the_sign():
    low, high = noise([trial(0, [0.5, 0.7], [0.1, 0.3])], BOTH).intervals[0]["stability"]
    assert (low, high) == pytest.approx((-0.2 - 12.706 * 0.1, -0.2 + 12.706 * 0.1))


@pytest.mark.parametrize(
    ("share", "is_member", "words"),
    [
        (0.62, True, "on the front, and in 62% of resamples"),
        (0.38, True, "on the front, and in 38% of resamples: it may be there by noise"),
        (0.1, False, "beaten by another trial, but on the front in 10% of resamples"),
        (0.0, False, "beaten by another trial"),
        (None, True, "on the front; how surely is not known"),
    ],
)
def test_a_trials_standing_in_words(share, is_member, words):
    assert standing(share, is_member) == words


def test_members_that_are_rarely_there_are_named():
    """Of two draws from (0, 0.6, 1) four in nine have a mean over the bar, and all three do."""
    found = [trial(0, [0.0, 0.6, 1.0], [0.1] * 3), trial(1, [0.52] * 3, [0.1] * 3)]
    known = noise(found, BOTH)
    assert known.on_front[0] == pytest.approx(4 / 9, abs=0.04)
    assert by_noise(known, [found[0]]) == [0]
    assert by_noise(noise([trial(0, 0.5, 0.1)], BOTH), [found[0]]) == []


def test_the_page_names_members_that_are_rarely_there():
    rare = [trial(0, [0.0, 0.6, 1.0], [0.1] * 3), trial(1, [0.52] * 3, [0.1] * 3)]
    assert [own.trial.number for own in study(rare).front] == [0]
    assert unsure(study(rare)).startswith("Trial 0 may be there by noise")
    assert "Trial 0 may be there by noise" in html(study(rare))
    sure = [trial(0, [0.9] * 3, [0.1] * 3), rare[1]]
    assert unsure(study(sure)).startswith("Every trial of the front")

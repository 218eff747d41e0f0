import pytest

from ratchet.pipelines.update.step_count import LEAST_STEPS, StepCount


def counted(total, steps, seconds_each=2.0, offset=0, skipped=0):
    count = StepCount()
    count.total = total
    count.skip(skipped)
    count.begin(offset)
    for step in steps:
        count.see(step, now=seconds_each * step)
    return count


def test_the_time_left_is_that_of_the_steps_left_at_the_pace_so_far():
    count = counted(total=100, steps=range(1, 11))
    assert count.seconds_left(now=20.0) == pytest.approx(2.0 * 90)


def test_a_pause_slows_the_pace():
    count = counted(total=100, steps=range(1, 11))
    assert count.seconds_left(now=38.0) == pytest.approx(36 / 9 * 90)


def test_nothing_is_said_before_the_pace_says_anything():
    assert StepCount().seconds_left(now=1.0) is None
    assert counted(100, range(1, 1 + LEAST_STEPS)).seconds_left(now=20.0) is None
    assert counted(100, range(1, 2 + LEAST_STEPS)).seconds_left(now=20.0) is not None


def test_steps_of_an_interrupted_run_do_not_count_for_the_pace():
    count = counted(total=60, steps=range(1, 11), offset=40, skipped=40)
    assert count.seconds_left(now=20.0) == pytest.approx(2.0 * 10)


def test_more_steps_than_were_planned_leave_the_time_unknown():
    assert counted(total=5, steps=range(1, 11)).seconds_left(now=20.0) is None

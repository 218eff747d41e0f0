import pytest

from ratchet.service.api.rate_limits import RateLimits


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_sixth_of_a_minutes_requests_may_come_at_once_and_the_rest_evenly(clock):
    limits = RateLimits(clock)

    # 12 a minute: 2 at once, then one every 5 seconds.
    burst = [limits.take("key", 12) for _ in range(3)]
    assert [one.allowed for one in burst] == [True, True, False]
    assert [one.remaining for one in burst] == [1, 0, 0]
    assert burst[2].retry_after_seconds == 5
    clock.now += 4.9
    assert not limits.take("key", 12).allowed
    clock.now += 0.2
    assert limits.take("key", 12).allowed
    clock.now += 3600
    assert [limits.take("key", 12).allowed for _ in range(3)] == [True, True, False]


def test_keys_have_buckets_of_their_own(clock):
    limits = RateLimits(clock)

    assert [limits.take(key, 1).allowed for key in ("a", "b", "a")] == [True, True, False]


def test_the_fewest_requests_a_minute_still_let_one_through(clock):
    limits = RateLimits(clock)

    assert limits.take("key", 1).allowed
    assert limits.take("key", 1).headers()["Retry-After"] == "60"


def test_only_so_many_buckets_are_kept(clock, monkeypatch):
    monkeypatch.setattr("ratchet.service.api.rate_limits.MAX_BUCKETS", 2)
    limits = RateLimits(clock)

    for key in ("a", "b", "a", "c"):
        limits.take(key, 6)

    assert not limits.take("a", 6).allowed  # used last but one, so kept
    assert limits.take("b", 6).allowed  # forgotten, and so full again

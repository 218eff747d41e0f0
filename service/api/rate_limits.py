"""How many requests a key may send: a bucket of tokens a key, refilled evenly."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_BUCKETS = 10_000
BURST_SECONDS = 10


@dataclass(frozen=True)
class Allowance:
    """What a key has left after a request.

    Attributes:
        allowed: Whether the request may go on.
        limit: Requests a minute.
        remaining: Requests that may follow at once.
        retry_after_seconds: Until the next request may come; 0 where one may come now.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after_seconds: int

    def headers(self) -> dict[str, str]:
        """The allowance as the fields that clients read."""
        fields = {
            "RateLimit-Policy": f'"requests";q={self.limit};w=60',
            "RateLimit": f'"requests";r={self.remaining};t={self.retry_after_seconds}',
        }
        if not self.allowed:
            fields["Retry-After"] = str(self.retry_after_seconds)
        return fields


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class RateLimits:
    """The buckets of this process; used from the event loop alone, so it needs no lock.

    Args:
        now: The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key_id: str, per_minute: int) -> Allowance:
        """Take a token of a key's bucket, if there is one.

        Args:
            key_id: Whose bucket.
            per_minute: Requests a minute; a sixth of them (at least one) may come at once.
        """
        now, rate = self._now(), per_minute / 60
        size = max(1.0, rate * BURST_SECONDS)
        bucket = self._buckets.setdefault(key_id, _Bucket(size, now))
        self._buckets.move_to_end(key_id)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(size, bucket.tokens + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return Allowance(False, per_minute, 0, math.ceil((1 - bucket.tokens) / rate))
        bucket.tokens -= 1
        return Allowance(True, per_minute, int(bucket.tokens), 0)

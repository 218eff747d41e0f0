"""How long a service that is away is waited for while a job is followed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from ratchet.service.client.failures import error_of, unreachable
from ratchet.service.client.steps import Call, Pause, Steps

PATIENCE_SECONDS = 120.0
"""A service that went away is started again by itself."""

FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 5.0
AWAY = (429, 500, 502, 503, 504)


@dataclass
class Patience:
    """Since when nobody answers.

    Attributes:
        path: What is asked for.
        clock: Seconds that only grow.
        away_since: When the first of the requests failed that were not answered since.
        num_failures: How many of them there are.
    """

    path: str
    clock: Callable[[], float] = time.monotonic
    away_since: float | None = None
    num_failures: int = 0

    def answered(self) -> None:
        """The service is there."""
        self.away_since, self.num_failures = None, 0

    def wait_out(self, error: httpx.TransportError, at_most: float = float("inf")) -> Steps[None]:
        """Pause, longer each time, until patience is at its end.

        Args:
            error: Why there is no answer.
            at_most: Seconds that the pause may take.

        Raises:
            UnavailableError: The service was away for too long.
        """
        now = self.clock()
        self.away_since = now if self.away_since is None else self.away_since
        if now - self.away_since > PATIENCE_SECONDS:
            raise unreachable(self.path, error) from error
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self.num_failures)
        self.num_failures += 1
        yield Pause(max(0.0, min(pause, at_most)))

    def asked(self, call: Call) -> Steps[httpx.Response]:
        """The answer to a request that may be repeated, waited for while the service is away.

        Raises:
            ServiceError: The answer is a refusal, or the service was away for too long.
        """
        while True:
            try:
                response = accepted((yield call))
            except httpx.TransportError as error:
                yield from self.wait_out(error)
            else:
                self.answered()
                return response


def accepted(response: httpx.Response) -> httpx.Response:
    """The response, where it is no refusal.

    Raises:
        httpx.RemoteProtocolError: The service is away, and may be back in a moment.
        ServiceError: It refuses.
    """
    if response.status_code in AWAY:
        raise httpx.RemoteProtocolError(f"answered {response.status_code}")
    if response.status_code >= 400:
        raise error_of(response)
    return response

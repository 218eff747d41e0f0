"""What becomes of a job whose attempt gave nothing: another attempt, after a pause, or its end."""

from __future__ import annotations

from ratchet.service.driver.job_folder import Failure

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
BUSY_PAUSE_SECONDS = 2.0
MAX_MEMORY_FAILURES = 2


def pause_before_retry(
    failure: Failure | None, num_lost: int, max_lost: int, num_memory: int = 0
) -> float | None:
    """Seconds until the next attempt, or None where there is none.

    Data, specs, methods and models are as wrong the next time. A lineage that somebody else holds
    is waited for, however long. What was lost to the surroundings is tried again, a bounded number
    of times, and what ran out of memory once: another machine may have more.

    Args:
        failure: What the attempt said, or None where it was lost without a word.
        num_lost: Attempts that were lost before it.
        max_lost: How many may be.
        num_memory: Attempts that ran out of memory, this one included.
    """
    if failure is not None and failure.kind == "busy":
        return min(LONGEST_PAUSE_SECONDS, BUSY_PAUSE_SECONDS * 2 ** min(num_lost, 10))
    if failure is not None and not failure.retryable:
        return None
    if failure is not None and failure.kind == "memory" and num_memory >= MAX_MEMORY_FAILURES:
        return None
    if num_lost >= max_lost:
        return None
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(num_lost, 10))

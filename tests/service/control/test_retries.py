import pytest

from ratchet.service.control.retries import pause_before_retry
from ratchet.service.driver.job_folder import Failure


def failure(kind, retryable):
    return Failure(kind, "what is wrong", (), retryable)


@pytest.mark.parametrize(
    ("given", "num_lost", "num_memory", "pause"),
    [
        (None, 0, 0, 1),
        (None, 1, 0, 2),
        (None, 5, 0, 32),
        (None, 6, 0, 60),  # never longer than a minute
        (None, 9, 0, 60),
        (None, 10, 0, None),  # ten may be lost
        (failure("internal", True), 0, 0, 1),
        (failure("internal", True), 10, 0, None),
        (failure("internal", False), 0, 0, None),
        (failure("data", False), 0, 0, None),
        (failure("memory", True), 0, 1, 1),
        (failure("memory", True), 1, 2, None),
        (failure("busy", True), 0, 0, 2),
        (failure("busy", True), 3, 0, 16),
        (failure("busy", True), 5000, 0, 60),  # waited for, however long
    ],
)
def test_what_is_wrong_with_the_job_is_final_and_what_was_lost_is_tried_again(
    given, num_lost, num_memory, pause
):
    assert pause_before_retry(given, num_lost, 10, num_memory) == pause

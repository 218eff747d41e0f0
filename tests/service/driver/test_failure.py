import errno

import pytest

from ratchet.pipelines.errors import (
    BusyError,
    DataError,
    DivergedError,
    MethodError,
    ModelError,
    NotFoundError,
    ObjectStoreError,
    ObjectStoreUnreachableError,
    Problem,
    RatchetError,
    SpecError,
    TrackingError,
    VersionError,
)
from ratchet.service.driver.failure import failure_of


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (SpecError("x"), "spec", False),
        (DataError("x"), "data", False),
        (MethodError("x"), "method", False),
        (ModelError("x"), "model", False),
        (NotFoundError("x"), "not_found", False),
        (VersionError("x"), "version", False),
        (DivergedError("x"), "diverged", False),
        (BusyError("x"), "busy", True),
        (ObjectStoreError("x"), "store", False),
        (ObjectStoreUnreachableError("x"), "store_unreachable", True),
        (TrackingError("x"), "tracking", True),
        (MemoryError(), "memory", True),
        (RatchetError("x"), "internal", False),
        (ZeroDivisionError("x"), "internal", False),
        (ConnectionError("the cluster is gone"), "internal", True),
        (OSError(errno.ENOSPC, "No space left on device"), "internal", True),
        (OSError(errno.EIO, "Input/output error"), "internal", True),
        (OSError(errno.EBUSY, "Please reduce your request rate"), "internal", True),
        (TimeoutError("timed out"), "internal", True),
        (ConnectionResetError("gone"), "internal", True),
        (PermissionError(errno.EACCES, "Permission denied"), "internal", False),
        (ValueError("Error: I/O error: No space left on device (os error 28)"), "internal", True),
        (ValueError("Error: No such file or directory (os error 2)"), "internal", False),
    ],
)
def test_an_error_is_told_by_what_is_to_be_done_about_it(error, kind, retryable):
    found = failure_of(error)
    assert (found.kind, found.retryable) == (kind, retryable)
    assert found.message


def caused(cause):
    """The error of a worker group, as the trainer raises it."""
    error = RatchetError("the worker group failed")
    error.__cause__ = cause
    return error


def test_a_worker_group_is_tried_again_where_workers_died_and_not_where_they_raised():
    from ray.exceptions import ActorDiedError, OutOfMemoryError
    from ray.train import WorkerGroupError

    died = caused(WorkerGroupError("x", {0: ActorDiedError()}))
    raised = caused(WorkerGroupError("x", {0: ValueError("a bug")}))
    starved = caused(OutOfMemoryError("x"))
    crowded = caused(WorkerGroupError("x", {1: OSError(errno.ENOSPC, "No space left on device")}))
    assert failure_of(crowded).retryable
    assert failure_of(died).retryable
    assert not failure_of(raised).retryable
    assert failure_of(starved).kind == "memory"


def test_torchs_lack_of_memory_is_one():
    import torch

    assert failure_of(torch.OutOfMemoryError("x")).kind == "memory"


def test_every_problem_is_kept_as_plain_values():
    error = DataError([Problem("a", "wrong", {1, 2}, "do this"), Problem("b", "worse", 7)])
    problems = failure_of(error).problems
    assert problems == (
        Problem("a", "wrong", "{1, 2}", "do this"),
        Problem("b", "worse", 7),
    )

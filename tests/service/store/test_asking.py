"""What may be asked of a job, and what becomes of it."""

import pytest

from ratchet.service.errors import (
    InvalidTransitionError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.jobs import get_job
from ratchet.service.store.lineages import get_lineage
from ratchet.service.store.running_jobs import (
    end_cancelled,
    end_paused,
    requeue,
)
from tests.service.store.samples import LOST, in_status
from tests.service.store.story import check_job


@pytest.mark.parametrize(
    ("status", "request_", "after"),
    [
        ("queued", "cancel", ("cancelled", None)),
        ("queued", "pause", ("paused", None)),
        ("queued", "resume", ("queued", None)),
        ("running", "cancel", ("running", "cancel")),
        ("running", "pause", ("running", "pause")),
        ("running", "resume", ("running", None)),
        ("paused", "cancel", ("cancelled", None)),
        ("paused", "pause", ("paused", None)),
        ("paused", "resume", ("queued", None)),
        ("cancelled", "cancel", ("cancelled", None)),
        *[("cancelled", request, None) for request in ("pause", "resume")],
        *[("failed", request, None) for request in ("cancel", "pause", "resume")],
        *[("succeeded", request, None) for request in ("cancel", "pause", "resume")],
    ],
)
def test_what_may_be_asked_of_a_job_follows_from_its_status(db, lease, status, request_, after):
    job = in_status(db, lease, status)
    if after is None:
        with pytest.raises(
            InvalidTransitionError,
            match=f"it is {status} already, so there is nothing to {request_}",
        ):
            ask(db, job.id, request_)
        assert get_job(db, job.id) == job
        return
    for _ in range(2):  # asking again changes nothing
        asked = ask(db, job.id, request_)
        assert (asked.status, asked.wanted) == after
    assert asked.revision - job.revision == (after != (job.status, job.wanted))
    check_job(db, asked)


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_is_asked_of_a_lost_attempt_is_granted_and_frees_the_lineage(
    db, lease, request_, status
):
    job = in_status(db, lease, "running")
    ask(db, job.id, request_)
    assert requeue(db, lease, job, LOST, 0.0).status == status
    assert get_lineage(db, "a").active_job is None
    check_job(db, get_job(db, job.id))


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_job_that_waits_for_another_attempt_frees_its_lineage_when_asked(
    db, lease, request_, status
):
    job = in_status(db, lease, "running")
    requeue(db, lease, job, LOST, 0.0)
    assert ask(db, job.id, request_).status == status
    assert get_lineage(db, "a").active_job is None
    check_job(db, get_job(db, job.id))


def test_a_cancellation_is_not_replaced_by_a_pause_and_a_pause_is_taken_back(db, lease):
    job = in_status(db, lease, "running")
    ask(db, job.id, "pause")
    assert ask(db, job.id, "resume").wanted is None
    with pytest.raises(InvalidTransitionError, match="pause is not what"):
        end_paused(db, lease, job)
    ask(db, job.id, "cancel")
    for request in ("pause", "resume"):
        with pytest.raises(InvalidTransitionError, match="being cancelled"):
            ask(db, job.id, request)
    assert end_cancelled(db, lease, job).status == "cancelled"

"""How many jobs of a key may wait."""

import pytest

from ratchet.service.errors import (
    QuotaExceededError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.keys import create_key
from ratchet.service.store.records import NewJob
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import plan


def test_a_queue_quota_counts_what_waits_and_what_is_resumed_but_no_replay(db, lease):
    key = create_key(db, "bob", "submitter", max_queued_jobs=1)[0]
    first = create_job(db, NewJob("plan", {}, key_id=key.id), "once")
    ask(db, first.job.id, "pause")
    second = plan(db, 2, key_id=key.id)
    with pytest.raises(QuotaExceededError, match="1 jobs in the queue"):
        plan(db, 3, key_id=key.id)
    with pytest.raises(QuotaExceededError):
        ask(db, first.job.id, "resume")
    assert create_job(db, NewJob("plan", {}, key_id=key.id), "once").is_replay
    ask(db, second.id, "cancel")
    assert ask(db, first.job.id, "resume").status == "queued"

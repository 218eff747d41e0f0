"""Jobs as they are listed."""

import pytest

from ratchet.service.errors import (
    JobNotFoundError,
)
from ratchet.service.store.jobs import list_jobs
from tests.service.store.samples import plan


def test_lists_are_filtered_and_paged_newest_first(db, lease):
    made = [plan(db, n, lineage=f"l{n % 2}", metadata={"n": str(n)}) for n in range(5)]
    newest_first = [job.id for job in made[::-1]]
    assert [job.id for job in list_jobs(db)] == newest_first
    assert [job.id for job in list_jobs(db, limit=2)] == newest_first[:2]
    assert [job.id for job in list_jobs(db, after=newest_first[1], limit=2)] == newest_first[2:4]
    assert [job.spec["n"] for job in list_jobs(db, lineage="l1")] == [3, 1]
    assert [job.spec["n"] for job in list_jobs(db, metadata={"n": "3"})] == [3]
    assert list_jobs(db, kind="update") == list_jobs(db, status="running") == []
    with pytest.raises(JobNotFoundError):
        list_jobs(db, after="ftjob-none")

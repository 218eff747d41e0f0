"""Covers `columns`, `files`, `filters`.

What the API lists beyond single jobs.
"""

from ratchet.service.store.events import list_events, list_latest_events
from ratchet.service.store.files import (
    bytes_of_key,
    create_file,
    delete_file,
    find_file,
    list_files,
)
from ratchet.service.store.jobs import count_jobs
from ratchet.service.store.keys import create_key
from ratchet.service.store.lineages import adopt, list_all_versions, promotions_of
from ratchet.service.store.records import KnownVersion, NewEvent, NewJob
from ratchet.service.store.running_jobs import Limits, claim_next, record_events
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import FACTS


def test_the_latest_events_are_paged_backwards_and_by_type(db, lease):
    told = (NewEvent("chats are read as texts"),)
    job = create_job(db, NewJob("update", {}, "intents", told=told)).job
    assert job.num_events == 2
    job = claim_next(db, lease, Limits(1))
    more = [
        NewEvent("saved", type="checkpoint"),
        NewEvent("step"),
        NewEvent("saved again", type="checkpoint"),
    ]
    record_events(db, lease, job.id, 1, more, 0, 1)

    latest = list_latest_events(db, job.id, limit=2)

    assert [event.sequence for event in latest] == [6, 5]
    assert [e.sequence for e in list_latest_events(db, job.id, 5, 2)] == [4, 3]
    kept = list_latest_events(db, job.id, kind="checkpoint")
    assert [event.message for event in kept] == ["saved again", "saved"]
    assert count_jobs(db) == {("update", "running"): 1}


def test_a_sequence_beyond_every_event_lists_none_and_all(db):
    job = create_job(db, NewJob("update", {}, "intents")).job
    assert list_events(db, job.id, 999_999_999_999) == []
    assert [event.sequence for event in list_latest_events(db, job.id, 999_999_999_999)] == [1]


def test_versions_of_all_lineages_are_listed_newest_first(db):
    for name, created in (("a", 1.0), ("b", 2.0), ("other", 3.0)):
        adopt(db, name, None, [KnownVersion(1, None, FACTS, created)], None, None)

    assert [v.lineage for v in list_all_versions(db)] == ["other", "b", "a"]
    assert [v.lineage for v in list_all_versions(db, ("a", "b"), 1)] == ["b"]
    assert promotions_of(db, []) == promotions_of(db, ["ftjob-none"]) == {}


def test_uploads_are_found_by_name_and_listed_from_either_end(db, key):
    made = [create_file(db, f"{n}" * 64, f"{n}.jsonl", "fine-tune", 1, key.id) for n in range(3)]
    ids = [file.id for file in made]

    assert [file.id for file in list_files(db, oldest_first=True)] == ids
    assert [file.id for file in list_files(db, after=ids[1], oldest_first=True)] == [ids[2]]
    assert [file.id for file in list_files(db, after=ids[1])] == [ids[0]]
    assert [file.id for file in list_files(db, sha256="1" * 64)] == [ids[1]]
    assert list_files(db, sha256="f" * 64) == []
    assert find_file(db, "1.jsonl", "fine-tune").id == ids[1]
    assert find_file(db, "1.jsonl", "labelled") is None
    delete_file(db, ids[1])
    assert find_file(db, "1.jsonl", "fine-tune") is None


def test_a_content_is_the_last_of_its_suffix_alone(db, key):
    rows, same, words = (
        create_file(db, "a" * 64, name, "fine-tune", 9, key.id).id
        for name in ("rows.jsonl", "again.JSONL", "words.txt")
    )
    assert not delete_file(db, rows).is_last
    assert delete_file(db, words).is_last
    assert delete_file(db, same).is_last


def test_what_a_key_holds_is_what_it_uploaded_and_did_not_delete(db, key):
    other = create_key(db, "bob", "submitter")[0]
    assert bytes_of_key(db, key.id) == 0
    made = [create_file(db, "1" * 64, "a.jsonl", "fine-tune", n, key.id) for n in (5, 2**33, 7)]
    create_file(db, "1" * 64, "a.jsonl", "fine-tune", 100, other.id)
    delete_file(db, made[0].id)
    assert bytes_of_key(db, key.id) == 2**33 + 7

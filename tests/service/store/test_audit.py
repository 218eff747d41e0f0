"""The audit trail as it is read."""

import pytest
from sqlalchemy import update

from ratchet.service.store.audit import list_audit, record
from ratchet.service.store.keys import create_key
from ratchet.service.store.tables import audit


@pytest.fixture
def trail(db):
    """Two keys made (entries 1 and 2), then three deeds, a hundred seconds apart."""
    alice, bob = (create_key(db, name, "submitter")[0] for name in ("alice", "bob"))
    record(db, "file.create", "file-1", key_id=alice.id, detail={"bytes": 3}, address="10.0.0.7")
    record(db, "file.delete", "file-1", key_id=bob.id, address="10.0.0.8")
    record(db, "file.create", "file-2", key_id="gone")
    with db.writing() as tx:
        tx.change(update(audit).values(created_at=100.0 * audit.c.id))
    return alice, bob


def told(entries):
    return [(entry.action, entry.object, entry.key_prefix) for entry in entries]


def test_entries_come_newest_first_with_the_name_of_their_key(db, trail):
    alice, bob = trail
    found = list_audit(db)
    assert told(found) == [
        ("file.create", "file-2", None),
        ("file.delete", "file-1", bob.prefix),
        ("file.create", "file-1", alice.prefix),
        ("key.create", bob.id, None),
        ("key.create", alice.id, None),
    ]
    assert (found[2].key_id, found[2].detail, found[2].address) == (
        alice.id,
        {"bytes": 3},
        "10.0.0.7",
    )
    assert found[0].key_id == "gone"


def test_a_page_goes_on_below_the_last_of_the_page_before(db, trail):
    first = list_audit(db, limit=2)
    rest = list_audit(db, before=first[-1].id)
    assert [entry.id for entry in first + rest] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"action": "file.create"}, [5, 3]),
        ({"object_id": "file-1"}, [4, 3]),
        ({"object_id": "file-1", "action": "file.create"}, [3]),
        ({"since": 400.0}, [5, 4]),
        ({"since": 400.5, "limit": 9}, [5]),
        ({"key": "gone"}, [5]),
        ({"key": "nobody\x00"}, []),
    ],
)
def test_a_list_is_narrowed_by_what_is_asked_for(db, trail, wanted, ids):
    assert [entry.id for entry in list_audit(db, **wanted)] == ids


def test_a_key_is_named_by_its_prefix_or_its_id(db, trail):
    _, bob = trail
    assert [entry.id for entry in list_audit(db, key=bob.prefix)] == [4]
    assert [entry.id for entry in list_audit(db, key=bob.id)] == [4]

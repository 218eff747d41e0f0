"""Covers, beside `keys`: `audit`.

API keys: shown once, kept as a hash, and seen in no message.
"""

import io
import logging

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError

from ratchet.service.errors import DatabaseUnavailableError, InvalidRequestError, KeyNotFoundError
from ratchet.service.store.asking import ask
from ratchet.service.store.audit import list_audit
from ratchet.service.store.database import Database
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.keys import authenticate, create_key, list_keys, revoke_key
from ratchet.service.store.records import ROLES, NewJob
from ratchet.service.store.submitting import create_job
from ratchet.service.store.tables import keys


def test_a_secret_leads_to_its_key_and_is_kept_nowhere(db):
    key, secret = create_key(db, "alice", "promoter", ("intents-*", "x"), max_queued_jobs=3)
    create_key(db, "bob", "viewer")
    found = authenticate(db, secret)
    assert (found.id, found.role, found.lineages) == (key.id, "promoter", ["intents-*", "x"])
    assert secret.startswith(f"rk_{key.prefix}_")
    assert len(secret) == len("rk_") + 8 + 1 + 43
    with db.reading() as tx:
        stored = str(tx.all(select(keys)))
    assert secret not in stored
    assert secret.removeprefix(f"rk_{key.prefix}_") not in stored
    assert "hash" not in repr(found)


def test_the_audit_trail_tells_of_keys_made_and_revoked_once(db):
    key, secret = create_key(db, "alice", "promoter", ("intents-*",))
    for _ in range(2):
        revoke_key(db, key.prefix)
    told = list_audit(db, object_id=key.id)
    assert [entry.action for entry in told] == ["key.revoke", "key.create"]
    assert told[1].detail["role"] == "promoter"
    assert secret not in str(told)
    assert secret.removeprefix(f"rk_{key.prefix}_") not in str(told)


def test_what_is_asked_of_a_job_and_the_trail_are_one_transaction(db, monkeypatch):
    key = create_key(db, "alice", "submitter")[0]
    new = NewJob("update", {"lineage": "intents"}, "intents", key_id=key.id)
    job = create_job(db, new, "once", address="10.0.0.7").job
    create_job(db, new, "once", address="10.0.0.7")  # the same request again
    ask(db, job.id, "pause", key.id, "10.0.0.7")
    ask(db, job.id, "resume", key.id)  # by the service itself
    told = list_audit(db, object_id=job.id)
    assert [entry.action for entry in told] == ["update.pause", "update.create"]
    assert [(entry.key_id, entry.address) for entry in told] == [(key.id, "10.0.0.7")] * 2
    for module in ("submitting", "asking"):
        monkeypatch.setattr(f"ratchet.service.store.{module}.add_to_trail", fail)
    with pytest.raises(OSError, match="full"):
        create_job(db, new, "twice", address="10.0.0.7")
    with pytest.raises(OSError, match="full"):
        ask(db, job.id, "cancel", key.id, "10.0.0.7")
    assert [(one.id, one.status) for one in list_jobs(db)] == [(job.id, "queued")]


def fail(*_args, **_kwargs):
    raise OSError("full")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda secret: secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        lambda secret: secret + "A",
        lambda secret: secret[:-1],
        lambda secret: "rk_00000000_" + secret[12:],
        lambda _secret: "",
        lambda secret: secret + "\n",
        lambda secret: secret.upper(),
        lambda _secret: "rk_\x00",
    ],
)
def test_another_secret_leads_to_nothing(db, spoil):
    secret = create_key(db, "alice", "admin")[1]
    assert authenticate(db, spoil(secret)) is None


def test_a_revoked_key_is_refused_and_stays_on_the_list(db):
    key, secret = create_key(db, "alice", "admin")
    revoked = revoke_key(db, key.prefix)
    assert revoked.revoked_at is not None
    assert authenticate(db, secret) is None
    assert revoke_key(db, key.id) == revoked
    assert list_keys(db) == [revoked]
    with pytest.raises(KeyNotFoundError):
        revoke_key(db, "key-none")


def test_use_is_noted_at_most_once_a_minute(db):
    key, secret = create_key(db, "alice", "viewer")
    assert key.last_used_at is None
    authenticate(db, secret)
    first = list_keys(db)[0].last_used_at
    authenticate(db, secret)
    assert list_keys(db)[0].last_used_at == first
    with db.writing() as tx:
        tx.change(update(keys).values(last_used_at=first - 61))
    authenticate(db, secret)
    assert list_keys(db)[0].last_used_at >= first


def test_roles_include_those_below(db):
    for position, role in enumerate(ROLES):
        key = create_key(db, role, role)[0]
        assert [key.may(other) for other in ROLES] == [n <= position for n in range(4)]


@pytest.mark.parametrize(
    ("globs", "seen", "unseen"),
    [
        (("*",), ["a", "intents-de", None], []),
        (("intents-*",), ["intents-", "intents-de"], ["intents", "Intents-de", "a", None]),
        (("a?", "b"), ["ab", "b"], ["a", "abc", "bb", None]),
        (("a_c",), ["a_c"], ["abc", None]),
        ((), [], ["a", None]),
    ],
)
def test_a_key_sees_what_its_globs_match_alone_and_in_lists(db, globs, seen, unseen):
    key = create_key(db, "alice", "viewer", globs)[0]
    for lineage in (*seen, *unseen):
        create_job(db, NewJob("plan", {}, lineage))
    assert [key.sees(lineage) for lineage in seen] == [True] * len(seen)
    assert [key.sees(lineage) for lineage in unseen] == [False] * len(unseen)
    listed = {job.lineage for job in list_jobs(db, globs=tuple(key.lineages))}
    assert listed == set(seen)


@pytest.mark.parametrize(
    ("role", "globs"), [("root", ("*",)), ("admin", ("a/b",)), ("admin", ("",))]
)
def test_an_unknown_role_or_glob_is_refused(db, role, globs):
    with pytest.raises(InvalidRequestError, match="is not"):
        create_key(db, "alice", role, globs)


def test_no_message_shows_a_parameter_or_a_password(db, caplog):
    caplog.set_level(logging.DEBUG)
    secret = create_key(db, "alice", "viewer")[1]
    authenticate(db, secret)
    with pytest.raises(IntegrityError) as failed, db.writing() as tx:
        tx.change(text("INSERT INTO keys (id, hash) VALUES (:a, :b)").bindparams(a="x", b=secret))
    assert secret not in str(failed.value).partition("DETAIL")[0]
    assert secret not in caplog.text


def test_neither_shape_nor_failure_of_a_database_shows_its_password():
    database = Database("postgresql://ratchet:hush-hush@127.0.0.1:1/nowhere")
    shown = io.StringIO(f"{database} {database!r}")
    with pytest.raises(DatabaseUnavailableError, match="RATCHET_DATABASE_URL") as failed:
        database.check()
    assert "hush" not in shown.read() + str(failed.value) + repr(failed.value)
    assert "hush" not in str(failed.value.__cause__)

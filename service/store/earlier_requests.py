"""Which job a request led to before: by its idempotency key, or by its body."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import or_, select

from ratchet.pipelines.files.json_value import Json
from ratchet.service.errors import IdempotencyMismatchError
from ratchet.service.store.columns import canonical_json
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.records import ENDED, Job, Kind, NewJob
from ratchet.service.store.rows import find_job, record
from ratchet.service.store.tables import idempotency, jobs

DEDUPE_SECONDS = 600.0
"""How long the same body from the same key leads to the same job, without an idempotency key."""


def find_earlier(
    db: Database,
    kind: Kind,
    request: Mapping[str, Json],
    key_id: str,
    idempotency_key: str | None = None,
) -> Job | None:
    """The job that the same request made before, if there is one: `create_job` would give it.

    Asked first, a request that came before is answered whatever has changed since.

    Args:
        db: The database.
        kind: What it asks for.
        request: What the client sent.
        key_id: Who asks.
        idempotency_key: The client's name for this request.

    Raises:
        IdempotencyMismatchError: The idempotency key came before with another body.
    """
    body_hash = _hash_of([kind, request])
    with db.reading() as tx:
        if idempotency_key is None:
            return _lately(tx, key_id, body_hash, DEDUPE_SECONDS)
        return _named(tx, key_id, idempotency_key, body_hash)


def body_hash_of(new: NewJob) -> str:
    """What the same request has again: a hash of what was sent, or else of the whole job."""
    if new.request is not None:
        return _hash_of([new.kind, new.request])
    return _hash_of([new.kind, new.lineage, new.spec, new.priority, new.metadata, new.not_before])


def claim_request(
    tx: Transaction,
    new: NewJob,
    idempotency_key: str | None,
    body_hash: str,
    job_id: str,
    dedupe_seconds: float,
) -> Job | None:
    """The job that the same request made before; where there is none, its key is the new job's.

    Args:
        tx: The transaction that makes the new job.
        new: What is asked for.
        idempotency_key: The client's name for this request.
        body_hash: Hash of the request.
        job_id: Id of the new job.
        dedupe_seconds: How long the same body counts as the same request.

    Raises:
        IdempotencyMismatchError: The idempotency key came before with another body.
    """
    if idempotency_key is not None:
        return _replayed(tx, new.key_id or "", idempotency_key, body_hash, job_id)
    if new.key_id is None:
        return None
    return _lately(tx, new.key_id, body_hash, dedupe_seconds)


def _hash_of(body: Sequence[Json]) -> str:
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _lately(tx: Transaction, key_id: str, body_hash: str, dedupe_seconds: float) -> Job | None:
    row = tx.one(
        select(jobs)
        .where(
            jobs.c.key_id == key_id,
            jobs.c.body_hash == body_hash,
            jobs.c.created_at > tx.now() - dedupe_seconds,
            jobs.c.status.not_in(ENDED),
            or_(jobs.c.wanted.is_(None), jobs.c.wanted != "cancel"),
        )
        .order_by(jobs.c.created_at.desc())
        .limit(1)
    )
    return None if row is None else record(Job, row)


def _replayed(
    tx: Transaction, owner: str, idempotency_key: str, body_hash: str, job_id: str
) -> Job | None:
    """Claim an idempotency key for a new job, or give the job that it led to before."""
    mine = {
        "key_id": owner,
        "idempotency_key": idempotency_key,
        "body_hash": body_hash,
        "job_id": job_id,
        "created_at": tx.now(),
    }
    if tx.insert_if_absent(idempotency, mine):
        return None
    return _named(tx, owner, idempotency_key, body_hash)


def _named(tx: Transaction, owner: str, idempotency_key: str, body_hash: str) -> Job | None:
    """The job that an idempotency key led to, or None where it is new."""
    row = tx.one(
        select(idempotency).where(
            idempotency.c.key_id == owner, idempotency.c.idempotency_key == idempotency_key
        )
    )
    if row is None:
        return None
    if row["body_hash"] != body_hash:
        raise IdempotencyMismatchError(
            f"Idempotency-Key: {idempotency_key!r} came before with another body. "
            "Send a new key with a new request",
            param="Idempotency-Key",
        )
    return find_job(tx, row["job_id"])

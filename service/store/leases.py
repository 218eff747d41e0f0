"""Leases: the right to act, given to one holder for a while, and fenced by a term.

A lease that has run out still lets its holder write until somebody else takes it: the term, which
every write compares while it holds the lease's row, tells the two apart. So a pause of a controller
costs nothing as long as nobody took over, and a controller that was taken over writes nothing more.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select, update

from ratchet.service.errors import LeaseLostError
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.records import Lease
from ratchet.service.store.rows import record
from ratchet.service.store.tables import leases


def acquire(db: Database, name: str, holder: str, seconds: float) -> Lease | None:
    """Take a lease that is free, has run out, or was this holder's; None when another has it.

    Args:
        db: The database, whose clock decides on PostgreSQL; on SQLite this machine's does.
        name: What the lease is for.
        holder: Who asks; every process another name.
        seconds: For how long, unless it is renewed.
    """
    with db.writing() as tx:
        row = _locked(tx, name)
        now = tx.now()
        if row is None:
            first = Lease(name, holder, 1, now + seconds)
            return first if tx.insert_if_absent(leases, vars(first)) else None
        if row.holder != holder and row.expires_at > now:
            return None
        return _set(tx, row, {"holder": holder, "term": row.term + 1, "expires_at": now + seconds})


def renew(db: Database, lease: Lease, seconds: float) -> Lease:
    """Keep a lease for longer.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    with db.writing() as tx:
        return _set(tx, lease, {"expires_at": tx.now() + seconds})


def release(db: Database, lease: Lease) -> None:
    """Give a lease back, so that the next holder need not wait; nothing if it is lost already."""
    with db.writing() as tx:
        row = _locked(tx, lease.name)
        if row is not None and row.term == lease.term:
            _set(tx, lease, {"expires_at": 0.0})


def get_lease(db: Database, name: str) -> Lease | None:
    """Who holds a lease, or held it last."""
    with db.reading() as tx:
        row = tx.one(_query(name))
    return None if row is None else record(Lease, row)


def live_holder(db: Database, name: str) -> str | None:
    """Who holds a lease that has not run out, or None, by the clock that leases go by."""
    with db.reading() as tx:
        row = tx.one(_query(name))
        return row["holder"] if row is not None and row["expires_at"] > tx.now() else None


def confirm(db: Database, lease: Lease) -> None:
    """Make sure that a lease was its holder's a moment ago: for what no transaction can hold.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    found = get_lease(db, lease.name)
    if found is None or (found.term, found.holder) != (lease.term, lease.holder):
        raise _lost(lease)


def check_held(tx: Transaction, lease: Lease, *, alone: bool = False) -> None:
    """Make sure that a lease is its holder's, and stays so until the transaction ends.

    Args:
        tx: The transaction.
        lease: The lease.
        alone: Whether to wait until no other transaction acts under the lease.

    Raises:
        LeaseLostError: Somebody else has taken it.
    """
    row = tx.one(_query(lease.name).with_for_update(read=not alone, key_share=alone))
    if row is None or row["term"] != lease.term or row["holder"] != lease.holder:
        raise _lost(lease)


def _query(name: str) -> Select[Any]:
    return select(leases).where(leases.c.name == name)


def _locked(tx: Transaction, name: str) -> Lease | None:
    row = tx.one(_query(name).with_for_update(key_share=True))
    return None if row is None else record(Lease, row)


def _set(tx: Transaction, lease: Lease, values: dict[str, str | float]) -> Lease:
    row = tx.one(
        update(leases)
        .where(
            leases.c.name == lease.name,
            leases.c.holder == lease.holder,
            leases.c.term == lease.term,
        )
        .values(**values)
        .returning(leases)
    )
    if row is None:
        raise _lost(lease)
    return record(Lease, row)


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"lease {lease.name}: {lease.holder} held it in term {lease.term} and somebody else has "
        "taken it. Stop acting, and acquire it anew"
    )

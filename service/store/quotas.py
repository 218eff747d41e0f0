"""How many jobs a key may have in the queue."""

from __future__ import annotations

from sqlalchemy import RowMapping, func, select

from ratchet.service.errors import KeyNotFoundError, QuotaExceededError
from ratchet.service.store.database import Transaction
from ratchet.service.store.tables import jobs, keys


def locked_key(tx: Transaction, key_id: str | None) -> RowMapping | None:
    """A key's row, so that what is counted for it stays true until the transaction ends."""
    if key_id is None:
        return None
    row = tx.one(select(keys).where(keys.c.id == key_id).with_for_update(key_share=True))
    if row is None:
        raise KeyNotFoundError(f"key: there is no {key_id!r}")
    return row


def check_queue_quota(tx: Transaction, limits: RowMapping | None) -> None:
    """Refuse another job of a key that has as many in the queue as it may.

    Args:
        tx: The transaction that adds the job.
        limits: The key's row, locked; None for no key.

    Raises:
        QuotaExceededError: It has.
    """
    if limits is None or limits["max_queued_jobs"] is None:
        return
    waiting = select(func.count()).where(jobs.c.key_id == limits["id"], jobs.c.status == "queued")
    if tx.value(waiting) >= limits["max_queued_jobs"]:
        raise QuotaExceededError(
            f"key {limits['name']}: it has {limits['max_queued_jobs']} jobs in the queue, as many "
            "as it may. Wait until one starts, or cancel one"
        )

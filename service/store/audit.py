"""The audit trail: who did what through the API, from where; keys made and keys revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select

from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.records import AuditEntry
from ratchet.service.store.rows import record as as_record
from ratchet.service.store.tables import audit


def record(
    db: Database,
    action: str,
    object_id: str,
    *,
    key_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    address: str = "",
) -> None:
    """Note an action.

    Args:
        db: The database.
        action: What was done, as `update.create`.
        object_id: To what.
        key_id: By whom.
        detail: What else matters; never a secret.
        address: From which address.
    """
    with db.writing() as tx:
        add(tx, action, object_id, key_id=key_id, detail=detail, address=address)


def add(
    tx: Transaction,
    action: str,
    object_id: str,
    *,
    key_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    address: str = "",
) -> None:
    """Note an action in the transaction that does it; see `record`."""
    values = {
        "key_id": key_id,
        "action": action,
        "object": object_id,
        "detail": detail,
        "address": address,
    }
    tx.change(insert(audit).values(**values, created_at=tx.now()))


def list_audit(
    db: Database,
    *,
    key_id: str | None = None,
    object_id: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """Entries, newest first; `before` is the id of the last of the page before."""
    query = select(audit)
    if key_id is not None:
        query = query.where(audit.c.key_id == key_id)
    if object_id is not None:
        query = query.where(audit.c.object == object_id)
    if before is not None:
        query = query.where(audit.c.id < before)
    with db.reading() as tx:
        rows = tx.all(query.order_by(audit.c.id.desc()).limit(limit))
        return [as_record(AuditEntry, row) for row in rows]

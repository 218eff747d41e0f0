"""The audit trail: who did what through the API, from where; keys made and keys revoked."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, or_, select

from ratchet.pipelines.files.json_value import Json
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.records import AuditEntry
from ratchet.service.store.rows import record as as_record
from ratchet.service.store.tables import audit, keys


def record(
    db: Database,
    action: str,
    object_id: str,
    *,
    key_id: str | None = None,
    detail: Mapping[str, Json] | None = None,
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
    detail: Mapping[str, Json] | None = None,
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
    key: str | None = None,
    action: str | None = None,
    object_id: str | None = None,
    since: float | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """Entries, newest first.

    Args:
        db: The database.
        key: Done by this key only; its prefix or its id.
        action: Only what is called so.
        object_id: Done to this only.
        since: Not before this time, in Unix seconds.
        before: The id of the last of the page before.
        limit: How many at most.
    """
    whose = audit.outerjoin(keys, keys.c.id == audit.c.key_id)
    query = select(audit, keys.c.prefix.label("key_prefix")).select_from(whose)
    if key is not None:
        query = query.where(or_(audit.c.key_id == key, keys.c.prefix == key))
    if action is not None:
        query = query.where(audit.c.action == action)
    if object_id is not None:
        query = query.where(audit.c.object == object_id)
    if since is not None:
        query = query.where(audit.c.created_at >= since)
    if before is not None:
        query = query.where(audit.c.id < before)
    with db.reading() as tx:
        rows = tx.all(query.order_by(audit.c.id.desc()).limit(limit))
        return [as_record(AuditEntry, row) for row in rows]

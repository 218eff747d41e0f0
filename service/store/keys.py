"""API keys: made, shown once, told from others, revoked."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from sqlalchemy import RowMapping, insert, or_, select, update

from ratchet.service.errors import InvalidRequestError, KeyNotFoundError
from ratchet.service.store.audit import add
from ratchet.service.store.database import Database
from ratchet.service.store.records import ROLES, Key, Role, new_id
from ratchet.service.store.tables import keys

_SECRET = re.compile(r"rk_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_GLOB = re.compile(r"[A-Za-z0-9._*?-]{1,128}")
_TOUCH_SECONDS = 60.0


def create_key(
    db: Database,
    name: str,
    role: Role,
    lineages: Sequence[str] = ("*",),
    *,
    max_running_jobs: int | None = None,
    max_queued_jobs: int | None = None,
    requests_per_minute: int | None = None,
) -> tuple[Key, str]:
    """Make a key.

    Args:
        db: The database.
        name: Who or what it is for.
        role: What it may do.
        lineages: Globs (`*` any text, `?` one character) of the lineages that it sees.
        max_running_jobs: Jobs that it may have running, or None for as many as there is room for.
        max_queued_jobs: Jobs that it may have in the queue, or None for any number.
        requests_per_minute: Requests that it may send, or None for the service's default.

    Returns:
        The key, and its secret: the only time that anyone sees it.

    Raises:
        InvalidRequestError: An unknown role, or a glob with characters that no lineage has.
    """
    _check(role, lineages)
    prefix = secrets.token_hex(4)
    secret = f"rk_{prefix}_{secrets.token_urlsafe(32)}"
    key_id = new_id("key")
    values = {
        "id": key_id,
        "prefix": prefix,
        "hash": _hash(secret),
        "name": name,
        "role": role,
        "lineages": list(lineages),
        "max_running_jobs": max_running_jobs,
        "max_queued_jobs": max_queued_jobs,
        "requests_per_minute": requests_per_minute,
    }
    with db.writing() as tx:
        row = tx.one(insert(keys).values(**values, created_at=tx.now()).returning(keys))
        detail = {"prefix": prefix, "name": name, "role": role, "lineages": list(lineages)}
        add(tx, "key.create", key_id, detail=detail)
    assert row is not None  # RETURNING gives what was inserted
    return _record(row), secret


def authenticate(db: Database, secret: str) -> Key | None:
    """The key that a secret belongs to; None when there is none or it was revoked.

    Notes the use of the key, at most once a minute.
    """
    form = _SECRET.fullmatch(secret)
    if form is None:
        return None
    with db.reading() as tx:
        row = tx.one(select(keys).where(keys.c.prefix == form.group(1)))
        now = tx.now()
    if row is None or not hmac.compare_digest(row["hash"], _hash(secret)):
        return None
    if row["revoked_at"] is not None:
        return None
    used = row["last_used_at"]
    if used is None or used <= now - _TOUCH_SECONDS:
        _touch(db, row["id"], now)
    return _record(row)


def list_keys(db: Database) -> list[Key]:
    """Every key, revoked ones too, oldest first."""
    with db.reading() as tx:
        return [_record(row) for row in tx.all(select(keys).order_by(keys.c.created_at, keys.c.id))]


def revoke_key(db: Database, key: str) -> Key:
    """Make a key useless from now on; jobs that it submitted go on.

    Args:
        db: The database.
        key: Its id or its prefix.

    Raises:
        KeyNotFoundError: There is no such key.
    """
    named = or_(keys.c.id == key, keys.c.prefix == key)
    with db.writing() as tx:
        revoked = tx.change(
            update(keys).where(named, keys.c.revoked_at.is_(None)).values(revoked_at=tx.now())
        )
        row = tx.one(select(keys).where(named))
        if row is not None and revoked:
            add(tx, "key.revoke", row["id"], detail={"prefix": row["prefix"]})
    if row is None:
        raise KeyNotFoundError(f"key: there is no {key!r}. `ratchet keys list` shows all")
    return _record(row)


def _check(role: str, lineages: Sequence[str]) -> None:
    if role not in ROLES:
        raise InvalidRequestError(
            f"role: {role!r} is not one. Choose one of {', '.join(ROLES)}", param="role"
        )
    for glob in lineages:
        if not _GLOB.fullmatch(glob):
            raise InvalidRequestError(
                f"lineages: {glob!r} is not a glob. Use letters, digits, . _ - and * or ?",
                param="lineages",
            )


def _hash(secret: str) -> str:
    """SHA-256: a secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _touch(db: Database, key_id: str, now: float) -> None:
    stale = or_(keys.c.last_used_at.is_(None), keys.c.last_used_at <= now - _TOUCH_SECONDS)
    with db.writing() as tx:
        tx.change(update(keys).where(keys.c.id == key_id, stale).values(last_used_at=now))


def _record(row: RowMapping) -> Key:
    return Key(**{name: value for name, value in row.items() if name != "hash"})

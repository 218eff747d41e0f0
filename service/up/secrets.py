"""What nobody but this user may read: the administrator's key and Ray's token."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ratchet.service.settings import Settings


def make_admin_key(path: Path, settings: Settings) -> bool:
    """Have the database laid out, and a key of an administrator in a file.

    A key that the database does not know (any more) is replaced.

    Returns:
        Whether a new one was made.

    Raises:
        ServiceError: The database cannot be reached or was laid out by another release.
    """
    from ratchet.service.store.database import Database
    from ratchet.service.store.keys import authenticate, create_key

    database = Database(settings.database_url)
    try:
        database.migrate()
        known = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if known and authenticate(database, known) is not None:
            path.chmod(0o600)
            return False
        _, secret = create_key(database, "ratchet up", "admin")
    finally:
        database.dispose()
    _write(path, secret)
    return True


def make_ray_token(path: Path) -> None:
    """Have a token for Ray in a file."""
    if not path.is_file():
        _write(path, secrets.token_hex(32))


def _write(path: Path, secret: str) -> None:
    """Replace a file by one that nobody else could read at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
    draft.rename(path)

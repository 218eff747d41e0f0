"""Uploads: what is known of them; their content lies in the home by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from sqlalchemy import func, insert, select, tuple_, update

from ratchet.service.errors import FileNotStoredError
from ratchet.service.schemas.file_ids import FILE_KIND
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.records import File, new_id
from ratchet.service.store.rows import record
from ratchet.service.store.tables import files


@dataclass(frozen=True)
class Deleted:
    """A deleted upload.

    Attributes:
        file: The upload.
        is_last: Whether no other upload has the same content under the same suffix, which is how
            contents are kept, so that the content can go too.
    """

    file: File
    is_last: bool


def create_file(
    db: Database, sha256: str, filename: str, purpose: str, num_bytes: int, key_id: str | None
) -> File:
    """Note an upload whose content is in its place."""
    values = {
        "id": new_id(FILE_KIND),
        "sha256": sha256,
        "filename": filename,
        "purpose": purpose,
        "bytes": num_bytes,
        "key_id": key_id,
    }
    with db.writing() as tx:
        row = tx.one(insert(files).values(**values, created_at=tx.now()).returning(files))
    assert row is not None  # RETURNING gives what was inserted
    return record(File, row)


def get_file(db: Database, file_id: str) -> File:
    """An upload by its id.

    Raises:
        FileNotStoredError: There is none, or it was deleted.
    """
    with db.reading() as tx:
        return _find(tx, file_id)


def find_file(db: Database, filename: str, purpose: str) -> File | None:
    """The newest upload of a name for a purpose, or None."""
    query = select(files).where(
        files.c.filename == filename, files.c.purpose == purpose, files.c.deleted_at.is_(None)
    )
    with db.reading() as tx:
        row = tx.one(query.order_by(files.c.created_at.desc(), files.c.id.desc()))
    return None if row is None else record(File, row)


def list_files(
    db: Database,
    *,
    purpose: str | None = None,
    key_id: str | None = None,
    sha256: str | None = None,
    after: str | None = None,
    limit: int = 100,
    oldest_first: bool = False,
) -> list[File]:
    """Uploads that were not deleted, newest first unless told otherwise.

    Args:
        db: The database.
        purpose: Only those for this purpose.
        key_id: Only those of this key.
        sha256: Only those with this content.
        after: The id of the last upload of the page before; it may have been deleted since.
        limit: How many at most.
        oldest_first: Whether to go from the oldest on.

    Raises:
        FileNotStoredError: `after` names no such upload.
    """
    query = select(files)
    order = (files.c.created_at, files.c.id)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    if key_id is not None:
        query = query.where(files.c.key_id == key_id)
    if sha256 is not None:
        query = query.where(files.c.sha256 == sha256)
    kept = query.where(files.c.deleted_at.is_(None))
    with db.reading() as tx:
        if after is not None:
            last = tx.one(query.where(files.c.id == after))
            if last is None:
                raise _unknown(after)
            place, known = tuple_(*order), (last["created_at"], last["id"])
            kept = kept.where(place > known if oldest_first else place < known)
        ordered = kept.order_by(*(column if oldest_first else column.desc() for column in order))
        return [record(File, row) for row in tx.all(ordered.limit(limit))]


def delete_file(db: Database, file_id: str) -> Deleted:
    """Delete an upload; jobs that named it keep its id.

    Raises:
        FileNotStoredError: There is none, or it was deleted before.
    """
    with db.writing() as tx:
        file = _find(tx, file_id)
        gone = (
            update(files)
            .where(files.c.id == file_id, files.c.deleted_at.is_(None))
            .values(deleted_at=tx.now())
            .returning(files)
        )
        row = tx.one(gone)
        if row is None:
            raise _unknown(file_id)
        others = select(files.c.filename).where(
            files.c.sha256 == file.sha256, files.c.deleted_at.is_(None)
        )
        left = {_suffix(other["filename"]) for other in tx.all(others)}
        return Deleted(record(File, row), is_last=_suffix(file.filename) not in left)


def _find(tx: Transaction, file_id: str) -> File:
    row = tx.one(select(files).where(files.c.id == file_id, files.c.deleted_at.is_(None)))
    if row is None:
        raise _unknown(file_id)
    return record(File, row)


def _suffix(filename: str) -> str:
    return PurePath(filename).suffix.lower()


def _unknown(file_id: str) -> FileNotStoredError:
    return FileNotStoredError(f"file: there is no {file_id!r}", param="file")


def bytes_of_key(db: Database, key_id: str) -> int:
    """The size of what a key has uploaded and not deleted, in bytes."""
    query = select(func.coalesce(func.sum(files.c.bytes), 0).label("bytes")).where(
        files.c.key_id == key_id, files.c.deleted_at.is_(None)
    )
    with db.reading() as tx:
        row = tx.one(query)
    assert row is not None  # a sum is one row
    return int(row["bytes"])

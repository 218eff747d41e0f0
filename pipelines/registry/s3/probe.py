"""Whether a server means it when it is asked to write only where nothing was."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from ratchet.pipelines.errors import ObjectStoreError
from ratchet.pipelines.registry.s3.objects import Found, ObjectStore

FOLDER = ".probe"
NUM_WRITERS = 8


def check_conditions(store: ObjectStore) -> None:
    """Write one object from many threads at once, fail to overwrite it, replace and delete it.

    Raises:
        ObjectStoreError: The server ignores conditions, so two writers would overwrite each other;
            or it cannot be used at all.
    """
    name = uuid.uuid4().hex
    key = f"{FOLDER}/{name}"
    try:
        # At once: some servers look first and write later, and so let several writers through.
        with ThreadPoolExecutor(NUM_WRITERS) as pool:
            won = list(pool.map(lambda n: store.create(key, b"%d" % n), range(NUM_WRITERS)))
        found = store.read(key)
        if found is None or sum(won) != 1 or _replaces_blindly(store, key):
            raise ObjectStoreError(
                f"{store.location}: the server ignores If-None-Match or If-Match on PUT, so two "
                "writers could overwrite each other's versions. Use a server that keeps them: "
                "Amazon S3, SeaweedFS, Ceph, MinIO or R2 in a current release"
            )
        if not store.replace(key, b"third", found):
            raise ObjectStoreError(
                f"{store.location}: the server refuses If-Match on PUT although nothing changed, "
                "so aliases could never move. Use another server"
            )
    finally:
        store.delete(FOLDER, [name])


def _replaces_blindly(store: ObjectStore, key: str) -> bool:
    return store.replace(key, b"other", Found(b"", '"00000000000000000000000000000000"'))

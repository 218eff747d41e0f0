"""Objects of a store: read, written once, replaced only by who knows what is there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import ClientError

from ratchet.pipelines.registry.s3.faults import code_of, explained
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation

NUM_ATTEMPTS = 6
"""Of every request; the pauses between them grow to 20 seconds."""
CONNECT_SECONDS = 5
READ_SECONDS = 30
MISSING = {"NoSuchKey", "404"}
LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", *MISSING}
"""Answers to a conditional write that came too late."""
NUM_DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class Found:
    """An object as it was read.

    Attributes:
        body: Its content.
        etag: The server's name for this content, for `ObjectStore.replace`.
    """

    body: bytes
    etag: str


class ObjectStore:
    """The objects below one location, through boto3.

    Credentials, region and endpoint come from the usual AWS environment variables. Requests are
    repeated where the server was away for a moment (`AWS_MAX_ATTEMPTS` says how often). Keys are
    relative to the location.

    Args:
        location: Bucket and prefix.
    """

    def __init__(self, location: ObjectStoreLocation) -> None:
        self.location = location
        self._client = _client(location)

    def read(self, key: str) -> Found | None:
        """An object's content, or None where there is none."""
        with self._explained():
            try:
                answer = self._client.get_object(**self._at(key))
            except ClientError as error:
                if code_of(error) in MISSING:
                    return None
                raise
            return Found(answer["Body"].read(), answer["ETag"])

    def create(self, key: str, body: bytes) -> bool:
        """Write an object where there is none, in one step on the server.

        Returns:
            Whether it holds this content now: False where somebody was first with another one.
        """
        return self._write_if(key, body, {"IfNoneMatch": "*"})

    def replace(self, key: str, body: bytes, found: Found | None) -> bool:
        """Write an object unless it changed since it was read, in one step on the server.

        Args:
            key: The object.
            body: Its new content.
            found: What was read; None where there was no such object.

        Returns:
            Whether it holds this content now; False where somebody else changed it.
        """
        if found is None:
            return self.create(key, body)
        return self._write_if(key, body, {"IfMatch": found.etag})

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whatever was there."""
        with self._explained():
            self._client.put_object(**self._at(key), Body=body)

    def upload(self, path: Path, key: str) -> None:
        """Write a file as an object, in parts where it is large."""
        with path.open("rb") as file, self._explained():
            self._client.upload_fileobj(file, self.location.bucket, self.location.key(key))

    def download(self, key: str, path: Path) -> bool:
        """Write an object into a new file; False where there is no such object."""
        with path.open("wb") as file, self._explained():
            try:
                self._client.download_fileobj(self.location.bucket, self.location.key(key), file)
            except ClientError as error:
                if code_of(error) in MISSING:
                    return False
                raise
        return True

    def names(self, folder: str) -> list[str]:
        """Keys of all objects below a folder, relative to it, ascending."""
        prefix = self.location.key(folder) + "/"
        pages = self._pages(Prefix=prefix)
        return sorted(found["Key"].removeprefix(prefix) for found in pages("Contents"))

    def folders(self, folder: str) -> list[str]:
        """Names of the folders right below a folder, ascending."""
        prefix = self.location.key(folder) + "/"
        pages = self._pages(Prefix=prefix, Delimiter="/")
        found = pages("CommonPrefixes")
        return sorted(each["Prefix"].removeprefix(prefix).rstrip("/") for each in found)

    def delete(self, folder: str, names: Iterable[str]) -> None:
        """Delete objects by their names below a folder; one that is gone already is no error."""
        keys = [{"Key": self.location.key(folder, name)} for name in names]
        for start in range(0, len(keys), NUM_DELETED_AT_ONCE):
            part = keys[start : start + NUM_DELETED_AT_ONCE]
            with self._explained():
                self._client.delete_objects(
                    Bucket=self.location.bucket, Delete={"Objects": part, "Quiet": True}
                )

    def _write_if(self, key: str, body: bytes, condition: dict[str, str]) -> bool:
        with self._explained():
            try:
                self._client.put_object(**self._at(key), Body=body, **condition)
            except ClientError as error:
                if code_of(error) not in LOST or code_of(error) == "NoSuchBucket":
                    raise
            else:
                return True
        # A write whose answer got lost is repeated, and then meets itself.
        found = self.read(key)
        return found is not None and found.body == body

    def _pages(self, **where: str) -> Any:
        """A function that gives all entries of a listing's section."""
        with self._explained():
            paginator = self._client.get_paginator("list_objects_v2")
            pages = list(paginator.paginate(Bucket=self.location.bucket, **where))
        return lambda section: [entry for page in pages for entry in page.get(section, [])]

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.location.bucket, "Key": self.location.key(key)}

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.location, self._client.meta.endpoint_url)


def _client(location: ObjectStoreLocation) -> Any:
    retries: dict[str, str | int] = {"mode": "standard"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = NUM_ATTEMPTS
    config = Config(retries=retries, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS)
    with explained(location, os.environ.get("AWS_ENDPOINT_URL_S3", "S3")):
        return Session().client("s3", config=config)

"""Where a store lies: a bucket and a prefix in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ratchet.pipelines.errors import Problem, SpecError

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class ObjectStoreLocation:
    """A bucket and a prefix.

    Attributes:
        bucket: Name of the bucket, which must exist.
        prefix: Path below it, without slashes at its ends; empty for the whole bucket.
    """

    bucket: str
    prefix: str

    @staticmethod
    def parse(uri: str) -> ObjectStoreLocation:
        """The location that a URI names.

        Raises:
            SpecError: It is not `s3://BUCKET[/PREFIX]`. What it holds is not repeated where it
                might be a secret.
        """
        bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
        if "@" in bucket:
            hint = "Give credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            raise SpecError([Problem("store", "a URI must not hold credentials", None, hint)])
        parts = [part for part in prefix.split("/") if part]
        if not uri.startswith(SCHEME) or not BUCKET.fullmatch(bucket) or {".", ".."} & {*parts}:
            hint = "Name a bucket that exists and, if you like, a folder in it"
            raise SpecError([Problem("store", "must be s3://BUCKET/PREFIX", uri, hint)])
        return ObjectStoreLocation(bucket, "/".join(parts))

    def key(self, *parts: object) -> str:
        """The key of an object below the prefix."""
        return "/".join(str(part) for part in (self.prefix, *parts) if part != "")

    def __str__(self) -> str:
        return SCHEME + "/".join([self.bucket, self.prefix] if self.prefix else [self.bucket])

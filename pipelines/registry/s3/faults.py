"""What an S3 client raises, in words that say what to do; no secret is ever part of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from s3transfer.exceptions import RetriesExceededError

from ratchet.pipelines.errors import (
    ObjectStoreError,
    ObjectStoreUnreachableError,
    without_credentials,
)
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation

REFUSED = {
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
OVERLOADED = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"}
AWAY = (EndpointConnectionError, HTTPClientError, ResponseStreamingError, RetriesExceededError)


@contextmanager
def explained(location: ObjectStoreLocation, endpoint: str) -> Iterator[None]:
    """Raise what the client raises as an error of ours.

    Args:
        location: The store that is asked.
        endpoint: The server's address.

    Raises:
        ObjectStoreUnreachableError: Nobody answers there, or not in time; it may work later.
        ObjectStoreError: Whatever asking again would not mend.
    """
    shown = without_credentials(endpoint)
    try:
        yield
    except ClientError as error:
        raise _answered(error, location, shown) from error
    except AWAY as error:
        raise ObjectStoreUnreachableError(
            f"{location}: {shown} cannot be reached ({type(error).__name__}). Nothing "
            "is lost: check AWS_ENDPOINT_URL and the network, then run the same command again"
        ) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ObjectStoreError(
            f"{location}: no credentials were found. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives them"
        ) from error
    except BotoCoreError as error:
        raise ObjectStoreError(f"{location}: the store cannot be used: {error}") from error


def code_of(error: ClientError) -> str:
    """The server's word for what is wrong, or the HTTP status where it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _answered(error: ClientError, location: ObjectStoreLocation, shown: str) -> ObjectStoreError:
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return ObjectStoreError(
            f"{location}: there is no bucket {location.bucket!r} at {shown}. "
            "Create it, or correct the store"
        )
    if code in REFUSED or status == 403:
        return ObjectStoreError(
            f"{location}: {shown} refused {error.operation_name} ({code}). Check the "
            "credentials, and that they may list, get, put and delete objects below the prefix"
        )
    if code in OVERLOADED or status >= 500:
        return ObjectStoreUnreachableError(
            f"{location}: {shown} answered {error.operation_name} with {code} again "
            "and again. Nothing is lost: run the same command again later"
        )
    return ObjectStoreError(f"{location}: {error.operation_name} failed at {shown}: {code}")

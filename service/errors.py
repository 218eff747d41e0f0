"""What a request is answered with instead of a result: a class a reason, with its HTTP status.

ServiceError              500
├── InvalidRequestError   400   the body, a field, or a `model` that names several things
├── KeyRefusedError       401   no key, or one that is unknown or revoked
├── ForbiddenError        403   a key whose role or lineages do not allow what was asked
├── UnknownModelError     404   no such task, version or lineage here
├── NoSuchPathError       404   no such path
├── NotStoredError        404   nothing in the database by that name
│   ├── JobNotFoundError, LineageNotFoundError, VersionNotFoundError
│   └── FileNotStoredError, KeyNotFoundError
├── NotAllowedError       405   a path that does not answer this method
├── InvalidTransitionError 409  something that its present state does not allow
├── StaleChampionError    409   a promotion that expected another champion
├── TooLargeError         413   more bytes than one request may have
├── UnsupportedTypeError  415   a body of another content type
├── InvalidSpecError      422   a spec that cannot be run
├── IdempotencyMismatchError 422 an idempotency key that came before with another body
├── OutOfScopeError       422   a strict request with text that belongs to no task
├── OverloadedError       429   no place in the queue, or no free place for another version
├── RateLimitedError      429   more requests a minute than the key may send
├── QuotaExceededError    429   more jobs in the queue than the key may have
└── UnavailableError      503   a version that is broken, or no replica that could answer
    ├── DatabaseUnavailableError   a database that cannot be reached, written or waited for
    └── DatabaseSchemaError        a database that another release laid out

LeaseLostError stands beside them: it is for controllers, never for clients.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

from ratchet.pipelines.errors import Problem, RatchetError
from ratchet.pipelines.files.json_value import JsonObject

_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_NAMES = re.compile(rf"\[(?P<quoted>{_QUOTED})\]|[^.\[\]]+")


class ServiceError(RatchetError):
    """Base of every error that a client gets to see.

    Args:
        message: Which field, its value, what is allowed and what to do.
        param: The field of the request that is to blame, or None.
        problems: Every single problem, where there are several.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    code: ClassVar[str] = "internal_error"
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(
        self, message: str, param: str | None = None, problems: Sequence[Problem] = ()
    ) -> None:
        self.message = message
        self.param = param
        self.problems = tuple(problems)
        super().__init__(message, param, self.problems)

    def __str__(self) -> str:
        return self.message


class InvalidRequestError(ServiceError, ValueError):
    """A request that does not say what it must, or says it wrongly."""

    status = 400
    title = "Invalid request"
    code = "invalid_request"


class KeyRefusedError(ServiceError, PermissionError):
    """A request without a key, or with one that is unknown or revoked."""

    status = 401
    title = "Key refused"
    code = "invalid_api_key"


class ForbiddenError(ServiceError, PermissionError):
    """A request that the role or the lineages of its key do not allow."""

    status = 403
    title = "Forbidden"
    code = "forbidden"


class UnknownModelError(ServiceError, LookupError):
    """A `model` that names nothing that is served here."""

    status = 404
    title = "Unknown model"
    code = "model_not_found"


class NoSuchPathError(ServiceError, LookupError):
    """A path, or a method of a path, that does not exist."""

    status = 404
    title = "Not found"
    code = "not_found"


class NotStoredError(ServiceError, LookupError):
    """A record that the database does not hold."""

    status = 404
    title = "Not found"
    code = "not_found"


class JobNotFoundError(NotStoredError):
    """A job that does not exist."""

    code = "job_not_found"


class LineageNotFoundError(NotStoredError):
    """A lineage that does not exist."""

    code = "lineage_not_found"


class VersionNotFoundError(NotStoredError):
    """A version that does not exist."""

    code = "version_not_found"


class FileNotStoredError(NotStoredError):
    """An upload that does not exist, or no longer."""

    code = "file_not_found"


class KeyNotFoundError(NotStoredError):
    """A key that does not exist."""

    code = "key_not_found"


class NotAllowedError(ServiceError, LookupError):
    """A method that a path does not answer."""

    status = 405
    title = "Method not allowed"
    code = "method_not_allowed"


class InvalidTransitionError(ServiceError, RuntimeError):
    """Something asked of a job or a lineage that its present state does not allow."""

    status = 409
    title = "Not possible in this state"
    code = "invalid_transition"


class StaleChampionError(ServiceError, RuntimeError):
    """A promotion that expected another champion than the present one."""

    status = 409
    title = "The champion has changed"
    code = "stale_champion"


class TooLargeError(ServiceError, ValueError):
    """A request with more bytes than are read."""

    status = 413
    title = "Request too large"
    code = "request_too_large"


class UnsupportedTypeError(ServiceError, ValueError):
    """A body of a content type that the path does not read."""

    status = 415
    title = "Unsupported media type"
    code = "unsupported_media_type"


class InvalidSpecError(ServiceError, ValueError):
    """A spec that cannot be run, with everything that is wrong with it."""

    status = 422
    title = "Invalid spec"
    code = "invalid_spec"


class IdempotencyMismatchError(ServiceError, ValueError):
    """An idempotency key that was used before with another body."""

    status = 422
    title = "Idempotency key used before"
    code = "idempotency_mismatch"


class OutOfScopeError(ServiceError, ValueError):
    """A strict request with text that belongs to no task."""

    status = 422
    title = "Out of scope"
    code = "out_of_scope"


class OverloadedError(ServiceError, RuntimeError):
    """More requests than there are places for; the same request may succeed a moment later."""

    status = 429
    title = "Too many requests"
    code = "overloaded"
    retry_after_seconds = 1


class RateLimitedError(ServiceError, RuntimeError):
    """More requests a minute than the key may send."""

    status = 429
    title = "Rate limit exceeded"
    code = "rate_limit_exceeded"


class QuotaExceededError(ServiceError, RuntimeError):
    """More jobs in the queue than the key may have."""

    status = 429
    title = "Quota exceeded"
    code = "quota_exceeded"
    retry_after_seconds = 30


class UnavailableError(ServiceError, RuntimeError):
    """Something that should answer and cannot."""

    status = 503
    title = "Unavailable"
    code = "unavailable"
    retry_after_seconds = 5


class DatabaseUnavailableError(UnavailableError):
    """A database that cannot be reached or written, or that keeps one waiting for too long."""

    title = "Database unavailable"
    code = "database_unavailable"


class DatabaseSchemaError(UnavailableError):
    """A database whose tables are not those of this release."""

    title = "Database of another release"
    code = "database_schema"
    retry_after_seconds = None


class LeaseLostError(RatchetError, RuntimeError):
    """A controller that no longer holds its lease: it must stop acting at once."""


def problem_document(error: ServiceError, instance: str) -> JsonObject:
    """The body of an error: RFC 9457, with the `error` member that OpenAI's clients read.

    Args:
        error: What went wrong.
        instance: The path that was asked for.
    """
    return {
        "type": f"urn:ratchet:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "instance": instance,
        "errors": [
            {"detail": str(problem), "pointer": json_pointer(problem.where)}
            for problem in error.problems
        ],
        "error": {
            "message": error.message,
            "type": _openai_type(error.status),
            "param": error.param,
            "code": error.code,
        },
    }


def json_pointer(where: str) -> str:
    """A field's path, such as `methods[1].strength`, as a JSON pointer: `#/methods/1/strength`.

    Names in quotes, such as `metadata["a.b"]`, are one part, as in
    `ratchet.pipelines.spec.problems.path_of`.
    """
    found = _NAMES.finditer(where)
    names = [json.loads(part["quoted"]) if part["quoted"] else part[0] for part in found]
    escaped = [part.replace("~", "~0").replace("/", "~1") for part in names]
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in escaped)


def _openai_type(status: int) -> str:
    known = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    if status in known:
        return known[status]
    return "invalid_request_error" if status < 500 else "server_error"

"""What a request is answered with instead of a result: a class a reason, with its HTTP status.

ServiceError              500
├── InvalidRequestError   400   the body, a field, or a `model` that names several things
├── UnknownModelError     404   no such task, version or lineage here
├── NoSuchPathError       404   no such path
├── NotAllowedError       405   a path that does not answer this method
├── TooLargeError         413   more bytes than one request may have
├── OutOfScopeError       422   a strict request with text that belongs to no task
├── OverloadedError       429   no place in the queue, or no free place for another version
└── UnavailableError      503   a version that is broken, or no replica that could answer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pipelines.errors import ModelError, Problem, RatchetError
from pipelines.manifest import Manifest


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


class NotAllowedError(ServiceError, LookupError):
    """A method that a path does not answer."""

    status = 405
    title = "Method not allowed"
    code = "method_not_allowed"


class TooLargeError(ServiceError, ValueError):
    """A request with more bytes than are read."""

    status = 413
    title = "Request too large"
    code = "request_too_large"


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


class UnavailableError(ServiceError, RuntimeError):
    """Something that should answer and cannot."""

    status = 503
    title = "Unavailable"
    code = "unavailable"
    retry_after_seconds = 5


def problem_document(error: ServiceError, instance: str) -> dict[str, Any]:
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
            {"detail": str(problem), "pointer": f"#/{problem.where.replace('.', '/')}"}
            for problem in error.problems
        ],
        "error": {
            "message": error.message,
            "type": _openai_type(error.status),
            "param": error.param,
            "code": error.code,
        },
    }


def _openai_type(status: int) -> str:
    if status == OverloadedError.status:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def refuse_language_model(manifest: Manifest) -> None:
    """Say that versions of language models are not served.

    Raises:
        ModelError: The version is one of a language model.
    """
    if manifest.kind == "causal_lm":
        raise ModelError(
            f"model.kind: {manifest.lineage}@{manifest.version} is a causal language model, and "
            "serving answers with classifiers only; use `ratchet predict`, or hand the version's "
            "adapters (in PEFT's format) to a server of language models"
        )

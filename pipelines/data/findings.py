"""What checks of data found: errors, and warnings that a strict spec turns into errors."""

from __future__ import annotations

from collections.abc import Iterable

from ratchet.pipelines.errors import DataError, Problem


class Findings:
    """Collects findings, so that all of them are reported at once.

    Args:
        strict: Whether warnings count as errors.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, where: str, message: str, hint: str = "") -> None:
        """Note something that cannot be learned from."""
        self.errors.append(Problem(where, message, hint=hint))

    def warn(self, where: str, message: str, hint: str = "") -> None:
        """Note something suspicious; an error when the spec is strict."""
        if self.strict:
            hint = f"{hint}. It is an error because of `data.strict`".removeprefix(". ")
        (self.errors if self.strict else self.warnings).append(Problem(where, message, hint=hint))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note problems found elsewhere as errors."""
        self.errors.extend(problems)

    def raise_errors(self) -> None:
        """Raise every error found, if there is one.

        Raises:
            DataError: With every error noted.
        """
        if self.errors:
            raise DataError(self.errors)

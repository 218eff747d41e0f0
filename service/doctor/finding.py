"""One thing that `doctor` looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        status: Whether it is as it should be; `fail` keeps Ratchet from running.
        found: What was found.
        advice: What to do about it, or an empty string.
    """

    name: str
    status: Status
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)

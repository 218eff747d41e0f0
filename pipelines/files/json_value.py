"""JSON as Python holds it: what a file, a body or a column may be before its shape is known.

Whoever knows the shape narrows at once, and hands on a record with fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""Any JSON value; lists and mappings that are only read may be of any kind."""

JsonObject: TypeAlias = "dict[str, Json]"
"""A JSON object that is the holder's own, to change or to hand on."""

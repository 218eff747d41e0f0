"""A JSON object inside a body, of a form that its writer knows: a spec, a result, a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratchet.pipelines.files.json_value import JsonObject as JsonFields
else:
    # pydantic takes no type that holds itself: it leaves what is inside to whoever narrows it.
    JsonFields = dict[str, Any]

__all__ = ["JsonFields"]

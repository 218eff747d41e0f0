"""What the audit trail looks like over the wire. Times are whole Unix seconds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from ratchet.service.schemas.json_fields import JsonFields


class AuditEntryView(BaseModel):
    """Something that was done through the API, or to a key; never edited afterwards.

    Attributes:
        key_id: The key that did it; null where none was needed.
        key_prefix: The part of that key's secret that names it.
        action: What was done, as `update.create`.
        target: To what: an id, or a lineage's name.
        detail: What else matters.
        address: From which address; empty where it was done on the service's own machine.
    """

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    created_at: int
    key_id: str | None
    key_prefix: str | None
    action: str
    target: str
    detail: JsonFields | None
    address: str

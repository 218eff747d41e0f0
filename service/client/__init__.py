"""The Python client of the service. Loads neither torch nor ray nor the database's library."""

from ratchet.service.client.client import AsyncClient, Client
from ratchet.service.client.failures import UnfinishedError
from ratchet.service.schemas.audit import AuditEntryView
from ratchet.service.schemas.jobs import (
    Decision,
    EventView,
    JobError,
    JobView,
    LineageView,
    Progress,
    PromotionView,
    VersionView,
)

__all__ = [
    "AsyncClient",
    "AuditEntryView",
    "Client",
    "Decision",
    "EventView",
    "JobError",
    "JobView",
    "LineageView",
    "Progress",
    "PromotionView",
    "UnfinishedError",
    "VersionView",
]

"""The Python client of the service. Loads neither torch nor ray nor the database's library."""

from service.api.native_schemas import (
    Decision,
    EventView,
    JobError,
    JobView,
    LineageView,
    Progress,
    PromotionView,
    VersionView,
)
from service.client.client import AsyncClient, Client
from service.client.failures import UnfinishedError

__all__ = [
    "AsyncClient",
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

# pyright: reportMissingTypeArgument=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false
"""The Serve ingress: HTTP in, a replica asked, its answer or error out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from ratchet.service.errors import OverloadedError, ServiceError, UnavailableError
from ratchet.service.schemas.classify import ClassifyRequest, Health, ModelList
from ratchet.service.serving.endpoint import create_endpoint

GONE = (
    ActorDiedError,
    ActorUnavailableError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)


class HandleBackend:
    """Asks replicas through a Serve handle.

    Args:
        handle: Of the replicas' deployment.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def classify(self, request: ClassifyRequest) -> bytes:
        """A `ClassifyResponse` as JSON, from the least busy replica."""
        return await self._asked("classify", request)

    async def models(self) -> ModelList:
        """What a request can name, as one replica knows it."""
        return await self._asked("models")

    async def health(self) -> Health:
        """How one replica serves the lineages."""
        return await self._asked("health")

    async def _asked(self, method: str, *arguments: Any) -> Any:
        try:
            found = await getattr(self._handle, method).remote(*arguments)
        except BackPressureError as error:
            raise OverloadedError("too many requests wait; try again in a moment") from error
        except GONE as error:
            raise UnavailableError("no replica could answer; try again in a moment") from error
        if isinstance(found, ServiceError):
            raise found
        return found


class Ingress:
    """The ingress deployment.

    Args:
        replicas: Handle of the replicas.
    """

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._backend = HandleBackend(replicas)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that Serve runs in this process."""
        return create_endpoint(self._backend)

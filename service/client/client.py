"""The client, blocking and asynchronous, from the one list of operations."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from ratchet.service.client import operations
from ratchet.service.client.address import Address, find_address
from ratchet.service.client.drivers import AwaitingDriver, BlockingDriver
from ratchet.service.client.steps import Steps
from ratchet.service.schemas.jobs import EventView

P = ParamSpec("P")
T = TypeVar("T")

ANSWER_SECONDS = 60.0


def _blocking(operation: Callable[P, Steps[T]]) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(operation)
    def method(self: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.driver.run(operation(*args, **kwargs))

    return method


def _awaiting(
    operation: Callable[P, Steps[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    async def method(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.driver.run(operation(*args, **kwargs))

    return method


def _iterating(
    operation: Callable[P, Steps[None]], _of: type[T]
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    @functools.wraps(operation)
    def method(self: Client, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.driver.iterate(operation(*args, **kwargs))

    return method


def _async_iterating(
    operation: Callable[P, Steps[None]], _of: type[T]
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    @functools.wraps(operation)
    def method(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self.driver.iterate(operation(*args, **kwargs))

    return method


class Client:
    """Speaks to a service, and waits for its answers.

    Args:
        url: Of the API; by default `RATCHET_URL`, or the service that `ratchet up` runs here.
        api_key: By default `RATCHET_API_KEY`, or the key of the home.
        home: The home of a service on this machine; by default `RATCHET_HOME`, then `.ratchet`.
        router_url: Of the router; by default `RATCHET_ROUTER_URL`, or that of the home's service.
        timeout: Seconds that an answer may take.
        transport: For tests and special networks.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: str | Path | None = None,
        router_url: str | None = None,
        timeout: float = ANSWER_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key, home, router_url)
        self.driver = BlockingDriver(address, timeout, transport)

    @property
    def address(self) -> Address:
        """The servers that are asked."""
        return self.driver.address

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.driver.http.close()

    submit = _blocking(operations.submit)
    upload = _blocking(operations.upload)
    get = _blocking(operations.get)
    list = _blocking(operations.jobs)
    cancel = _blocking(operations.cancel)
    pause = _blocking(operations.pause)
    resume = _blocking(operations.resume)
    wait = _blocking(operations.wait)
    past_events = _blocking(operations.past_events)
    events = _iterating(operations.events, EventView)
    logs = _iterating(operations.logs, str)
    lineages = _blocking(operations.lineages)
    lineage = _blocking(operations.lineage)
    versions = _blocking(operations.versions)
    version = _blocking(operations.version)
    promotions = _blocking(operations.promotions)
    promote = _blocking(operations.promote)
    rollback = _blocking(operations.rollback)
    me = _blocking(operations.me)
    audit = _blocking(operations.audit)
    predict = _blocking(operations.predict)
    models = _blocking(operations.models)


class AsyncClient:
    """`Client` for asynchronous programs: what it returns is awaited, or iterated with `async for`.

    It takes the same arguments.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: str | Path | None = None,
        router_url: str | None = None,
        timeout: float = ANSWER_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        address = find_address(url, api_key, home, router_url)
        self.driver = AwaitingDriver(address, timeout, transport)

    @property
    def address(self) -> Address:
        """The servers that are asked."""
        return self.driver.address

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.driver.http.aclose()

    submit = _awaiting(operations.submit)
    upload = _awaiting(operations.upload)
    get = _awaiting(operations.get)
    list = _awaiting(operations.jobs)
    cancel = _awaiting(operations.cancel)
    pause = _awaiting(operations.pause)
    resume = _awaiting(operations.resume)
    wait = _awaiting(operations.wait)
    past_events = _awaiting(operations.past_events)
    events = _async_iterating(operations.events, EventView)
    logs = _async_iterating(operations.logs, str)
    lineages = _awaiting(operations.lineages)
    lineage = _awaiting(operations.lineage)
    versions = _awaiting(operations.versions)
    version = _awaiting(operations.version)
    promotions = _awaiting(operations.promotions)
    promote = _awaiting(operations.promote)
    rollback = _awaiting(operations.rollback)
    me = _awaiting(operations.me)
    audit = _awaiting(operations.audit)
    predict = _awaiting(operations.predict)
    models = _awaiting(operations.models)

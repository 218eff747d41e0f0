# pyright: reportMatchNotExhaustive=false
"""Takes the steps of an operation: one driver blocks, the other awaits."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx

from ratchet.service.client.address import Address
from ratchet.service.client.steps import Call, Close, Emit, Open, Pause, Read, Step, Steps, Tell

T = TypeVar("T")

CONNECT_SECONDS = 5.0
THIS_MACHINE = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""Never asked through a proxy, whatever the variables say: it could not, and would see the key."""


class BlockingDriver:
    """Takes steps with `httpx.Client`.

    Args:
        address: Where the servers are.
        timeout: Seconds that an answer may take.
        transport: For tests and special networks.
    """

    def __init__(
        self, address: Address, timeout: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.address = address
        self.http = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            transport=transport,
            mounts=dict.fromkeys(THIS_MACHINE),
        )

    def run(self, steps: Steps[T]) -> T:
        """The result of an operation that emits nothing."""
        found: list[T] = []
        for _ in self._drive(steps, found):
            raise AssertionError("an operation that emits is iterated over")
        return found[0]

    def iterate(self, steps: Steps[Any]) -> Iterator[Any]:
        """What an operation emits."""
        return self._drive(steps, [])

    def _drive(self, steps: Steps[T], found: list[T]) -> Iterator[Any]:
        stream = _Stream(self)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = steps.send(None)
                    continue
                try:
                    answer = self._take(step, stream)
                except httpx.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            found.append(end.value)
        finally:
            steps.close()
            stream.close()

    def _take(self, step: Step, stream: _Stream) -> Any:
        match step:
            case Call():
                with ExitStack() as files:
                    request = request_of(self.http, step, self.address, files)
                    return self.http.send(request)
            case Pause():
                time.sleep(step.seconds)
            case Tell():
                step.listener(step.value)
            case Open():
                return stream.open(step)
            case Read():
                return stream.read()
            case Close():
                stream.close()
        return None


class _Stream:
    """The stream that is open, if any."""

    def __init__(self, driver: BlockingDriver) -> None:
        self._driver = driver
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def open(self, step: Open) -> httpx.Response:
        self.close()
        http = self._driver.http
        request = stream_request(http, step, self._driver.address)
        self._response = http.send(request, stream=True)
        if self._response.status_code >= 400:
            self._response.read()
        else:
            self._chunks = self._response.iter_bytes()
        return self._response

    def read(self) -> bytes | None:
        return next(self._chunks, None)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._chunks = None, iter(())


class AwaitingDriver:
    """Takes steps with `httpx.AsyncClient`; see `BlockingDriver`."""

    def __init__(
        self, address: Address, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.address = address
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
            transport=transport,
            mounts=dict.fromkeys(THIS_MACHINE),
        )

    async def run(self, steps: Steps[T]) -> T:
        """The result of an operation that emits nothing."""
        found: list[T] = []
        async for _ in self._drive(steps, found):
            raise AssertionError("an operation that emits is iterated over")
        return found[0]

    def iterate(self, steps: Steps[Any]) -> AsyncIterator[Any]:
        """What an operation emits."""
        return self._drive(steps, [])

    async def _drive(self, steps: Steps[T], found: list[T]) -> AsyncIterator[Any]:
        stream = _AsyncStream(self)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = steps.send(None)
                    continue
                try:
                    answer = await self._take(step, stream)
                except httpx.TransportError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            found.append(end.value)
        finally:
            steps.close()
            await stream.close()

    async def _take(self, step: Step, stream: _AsyncStream) -> Any:
        match step:
            case Call():
                with ExitStack() as files:
                    request = request_of(self.http, step, self.address, files)
                    return await self.http.send(request)
            case Pause():
                await asyncio.sleep(step.seconds)
            case Tell():
                heard = step.listener(step.value)
                if inspect.isawaitable(heard):
                    await heard
            case Open():
                return await stream.open(step)
            case Read():
                return await stream.read()
            case Close():
                await stream.close()
        return None


class _AsyncStream:
    """The stream that is open, if any."""

    def __init__(self, driver: AwaitingDriver) -> None:
        self._driver = driver
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def open(self, step: Open) -> httpx.Response:
        await self.close()
        http = self._driver.http
        request = stream_request(http, step, self._driver.address)
        self._response = await http.send(request, stream=True)
        if self._response.status_code >= 400:
            await self._response.aread()
        else:
            self._chunks = self._response.aiter_bytes()
        return self._response

    async def read(self) -> bytes | None:
        return None if self._chunks is None else await anext(self._chunks, None)

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
        self._response = self._chunks = None


def request_of(
    http: httpx.Client | httpx.AsyncClient, call: Call, address: Address, files: ExitStack
) -> httpx.Request:
    """A request to send; a file that it sends is opened and closed by the stack."""
    form, upload, body = None, None, call.body
    if call.file is not None:
        opened = files.enter_context(call.file.open("rb"))
        upload = {"file": (call.file.name, opened, "application/octet-stream")}
        form, body = body, None
    return http.build_request(
        call.method,
        address.url_of(call.server) + call.path,
        params={name: value for name, value in call.query.items() if value is not None},
        headers={**address.headers_of(call.server), **call.headers},
        files=upload,
        data=form,
        json=body,
    )


def stream_request(
    http: httpx.Client | httpx.AsyncClient, step: Open, address: Address
) -> httpx.Request:
    """A request for a stream."""
    return http.build_request(
        "GET",
        address.url_of("api") + step.path,
        headers={**address.headers_of("api"), **step.headers},
        timeout=httpx.Timeout(CONNECT_SECONDS, read=step.silence_seconds),
    )

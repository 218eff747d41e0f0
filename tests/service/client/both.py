"""Calls `AsyncClient` as one calls `Client`."""

import asyncio

from ratchet.service.client import AsyncClient, Client


class Both:
    """A client of either kind, called without awaiting; what it emits comes as a list."""

    def __init__(self, kind, url, key):
        self.kind, self.url, self.key = kind, url, key
        self._runner = asyncio.Runner()
        self._client = kind(url, key)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.kind is Client:
            self._client.close()
        else:
            self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name):
        operation = getattr(self._client, name)

        def called(*arguments, **named):
            if self.kind is AsyncClient:
                return self._runner.run(_awaited(operation, arguments, named))
            found = operation(*arguments, **named)
            return list(found) if name in ("events", "logs") else found

        return called


async def _awaited(operation, arguments, named):
    found = operation(*arguments, **named)
    if hasattr(found, "__aiter__"):
        return [each async for each in found]
    return await found

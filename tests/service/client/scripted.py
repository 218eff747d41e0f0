"""A server that answers from a script, and one way to call both clients."""

import asyncio
import json

import httpx

from ratchet.service.client import AsyncClient, Client

URL = "http://service.test"
JOB = {
    "id": "ftjob-0123456789abcdef01234567",
    "object": "update",
    "lineage": "tiny",
    "status": "running",
    "phase": "training",
    "progress": None,
    "attempt": 1,
    "priority": 0,
    "parent": None,
    "created_at": 1,
    "started_at": 2,
    "finished_at": None,
    "estimated_finish": None,
    "spec": {},
    "result": None,
    "promotion": None,
    "error": None,
    "metadata": {},
    "cancel_requested": False,
    "pause_requested": False,
}


def event(number, message="said"):
    return {
        "id": f"ftevent-0123456789abcdef01234567-{number:06}",
        "object": "fine_tuning.job.event",
        "created_at": number,
        "level": "info",
        "type": "message",
        "message": message,
        "data": {},
    }


class Script:
    """Answers requests one after another, the last answer for ever; an exception is raised.

    An answer is a response, an exception, or a function of the request that returns one of them.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        found = answer(request) if callable(answer) else answer
        if isinstance(found, Exception):
            raise found
        return found

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests]


def call(kind, handler, operation, *arguments, **named):
    """Call an operation of `Client` or of `AsyncClient`; what it emits comes as a list."""
    transport = httpx.MockTransport(handler)
    if kind is Client:
        with Client(URL, "key", transport=transport) as client:
            found = getattr(client, operation)(*arguments, **named)
            return list(found) if operation in ("events", "logs") else found

    async def asynchronously():
        async with AsyncClient(URL, "key", transport=transport) as client:
            found = getattr(client, operation)(*arguments, **named)
            if operation in ("events", "logs"):
                return [each async for each in found]
            return await found

    return asyncio.run(asynchronously())


def ok(content):
    return httpx.Response(200, json=content)


def listed(data, has_more=False):
    last = data[-1]["id"] if data else None
    return ok({"object": "list", "data": data, "has_more": has_more, "last_id": last})

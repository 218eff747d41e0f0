"""Server-sent events out of bytes that arrive in any pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A message of the stream.

    Attributes:
        kind: Its `event`; `message` where none is given.
        id: Its `id`, or an empty string.
        data: Its lines of data.
    """

    kind: str
    id: str
    data: str


class MessageParser:
    """Cuts a stream into messages. Comments, which keep it alive, yield nothing."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: list[tuple[str, str]] = []

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """The messages that end within a further piece."""
        # Not str.splitlines: a message may hold characters that it takes for ends of lines.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode()
            if text:
                name, _, value = text.partition(":")
                self._fields.append((name, value.removeprefix(" ")))
                continue
            message = self._message()
            if message is not None:
                yield message

    def _message(self) -> Message | None:
        fields, self._fields = self._fields, []
        known = dict(fields)
        data = [value for name, value in fields if name == "data"]
        if not data and "event" not in known:
            return None
        return Message(known.get("event", "message"), known.get("id", ""), "\n".join(data))

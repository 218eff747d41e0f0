# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Chats as labelled texts: the last user message is the text, the last assistant one the label."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ratchet.pipelines.errors import DataError, Problem

MAX_PROBLEMS = 20


def holds_chats(path: Path) -> bool:
    """Whether a file of JSON lines holds chats; its first row says it."""
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                row = _row(line)
                return isinstance(row, Mapping) and "messages" in row
    return False


def labelled_texts(path: Path) -> Iterator[bytes]:
    """The chats of a file as lines of `{text, label}`.

    Raises:
        DataError: Rows that are no chats with both messages; says which.
    """
    problems: list[Problem] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            found = _labelled(_row(line))
            if isinstance(found, str):
                problems.append(Problem("", f"line {number}: {found}"))
            elif not problems:
                yield (json.dumps(found, ensure_ascii=False) + "\n").encode()
            if len(problems) >= MAX_PROBLEMS:
                break
    if problems:
        raise DataError(problems)


def _row(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _labelled(row: Any) -> dict[str, str] | str:
    """A chat's text and label, or what is wrong with it."""
    messages = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(messages, list):
        return "a row needs `messages`, as the first row has them"
    text, label = _last(messages, "user"), _last(messages, "assistant")
    if not text or not label:
        absent = "user" if not text else "assistant"
        return f"a chat needs a message of the role {absent} with text in it"
    return {"text": text, "label": label}


def _last(messages: list[Any], role: str) -> str:
    own = [m for m in messages if isinstance(m, Mapping) and m.get("role") == role]
    return _text_of(own[-1].get("content")).strip() if own else ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))

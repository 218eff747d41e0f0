"""How the values of a record become rows: labelled text, instructions, chats, raw text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.readers import TEXT_COLUMN, Broken
from ratchet.pipelines.data.segments import SEPARATOR, first_tokens, join_segments
from ratchet.pipelines.spec.update_spec import ColumnsSpec

Made = tuple[int, str, str]
"""Lines after the record's first, text, label."""


class Recipe(Protocol):
    """Makes rows of one format.

    Attributes:
        columns: The columns that it needs.
    """

    columns: tuple[str, ...]

    def rows(self, values: Sequence[Any]) -> Sequence[Made] | Broken:
        """The rows of a record, from the values of `columns` in order, or what is wrong there."""
        ...


class LabelledText:
    """One text with its label."""

    def __init__(self, columns: ColumnsSpec) -> None:
        self.columns = (columns.text, columns.label)

    def rows(self, values: Sequence[Any]) -> Sequence[Made] | Broken:
        """The one row of a record."""
        text, name = values
        label = as_name(name, self.columns[1])
        wrong = bad_text(text, self.columns[0]) or (label if isinstance(label, Broken) else None)
        return wrong or [(0, text, str(label))]


class Instructions:
    """A prompt and the completion to learn; the label is the completion."""

    def __init__(self, columns: ColumnsSpec) -> None:
        self.columns = (columns.prompt, columns.completion)

    def rows(self, values: Sequence[Any]) -> Sequence[Made] | Broken:
        """The one row of a record."""
        for value, column in zip(values, self.columns, strict=True):
            wrong = bad_text(value, column) or bad_segment(value, column)
            if wrong is not None:
                return wrong
        return [(0, join_segments(values), values[1])]


class Chat:
    """A chat, written out by the tokenizer's template; every answer of the assistant is learned.

    The label is the assistant's answer where there is one, else the last.
    """

    def __init__(self, columns: ColumnsSpec, tokenizer: PreTrainedTokenizerBase) -> None:
        self.columns = (columns.messages,)
        self.tokenizer = tokenizer

    def rows(self, values: Sequence[Any]) -> Sequence[Made] | Broken:
        """The one row of a record."""
        messages = _plain_messages(values[0], self.columns[0])
        if isinstance(messages, Broken):
            return messages
        try:
            segments = self._segments(messages)
        except TemplateError as error:
            return Broken(f"the chat template refuses these messages: {error}")
        if isinstance(segments, Broken):
            return segments
        return [(0, join_segments(segments), segments[-1])]

    def _segments(self, messages: list[dict[str, str]]) -> list[str] | Broken:
        """What is given and what is learned, in turns; what follows the last answer is left out."""
        written, segments = "", []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked = self._write(messages[:place], open_ended=True)
            told = self._write(messages[: place + 1], open_ended=False)
            if not asked.startswith(written) or not told.startswith(asked):
                return Broken(
                    "the tokenizer's chat template writes earlier turns differently once a later "
                    "one follows, so that it cannot be told what is learned",
                    hint="Use a template that only appends, or one answer a chat",
                )
            answer = told[len(asked) :].partition(str(self.tokenizer.eos_token))[0]
            segments += [asked[len(written) :], answer]
            written = asked + answer
        return segments

    def _write(self, messages: list[dict[str, str]], open_ended: bool) -> str:
        found = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=open_ended
        )
        return str(found)


class RawText:
    """Text to continue, cut into blocks that fill the length; each block is a row.

    A block ends where a word begins, so that its own text has the same tokens again. Documents
    never share a block. The rows have no label.
    """

    def __init__(self, column: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.columns = (column,)
        self.tokenizer = tokenizer
        self.room = max(1, max_length - len(first_tokens(tokenizer)))

    def rows(self, values: Sequence[Any]) -> Sequence[Made] | Broken:
        """The blocks of a document."""
        (text,) = values
        wrong = bad_text(text, self.columns[0]) or bad_segment(text, self.columns[0])
        if wrong is not None:
            return wrong
        cuts = self._cuts(text)
        blocks = [(start, text[start:stop]) for start, stop in pairwise(cuts)]
        return [(text.count("\n", 0, start), block, "") for start, block in blocks if block.strip()]

    def _cuts(self, text: str) -> list[int]:
        """Where blocks start, and where the last one ends."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets: list[tuple[int, int]] = encoding["offset_mapping"]
        words: list[int | None] = encoding.word_ids()
        cuts, first = [0], 0
        while len(offsets) - first > self.room:
            last = place = first + self.room
            while place > first + 1 and words[place] == words[place - 1]:
                place -= 1
            if words[place] == words[place - 1]:  # a word longer than a block
                place = last
                while place > first + 1 and offsets[place][0] == offsets[place - 1][0]:
                    place -= 1  # never inside a character
            cuts.append(offsets[place][0])
            first = place
        return [*cuts, len(text)]


@dataclass(frozen=True)
class LanguageData:
    """What reading the data of a language model needs to know.

    Attributes:
        tokenizer: The model's.
        max_length: Tokens of a row.
        format: The format of the spec, or `auto`.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    format: str = "auto"

    def recipe(self, columns: ColumnsSpec, present: Sequence[str]) -> Recipe | Broken:
        """The recipe for a file with these columns, or why there is none."""
        kind = self.format if self.format != "auto" else _format_of(columns, present)
        if kind == "instructions":
            return Instructions(columns)
        if kind == "text":
            column = columns.text if columns.text in present else TEXT_COLUMN
            return RawText(column, self.tokenizer, self.max_length)
        if kind == "chat" and self.tokenizer.chat_template is None:
            return Broken(
                "chats are written out by the tokenizer's chat template, and this model's "
                "tokenizer has none",
                hint="Use a model that was tuned for chats, or columns `prompt` and `completion`",
            )
        if kind == "chat":
            return Chat(columns, self.tokenizer)
        wanted = f"{columns.prompt!r} and {columns.completion!r}, {columns.messages!r}"
        return Broken(
            f"a language model learns from columns {wanted} or {columns.text!r}; the columns "
            f"there are: {', '.join(map(repr, present))}",
            hint="Set the names under `columns`",
        )


def _format_of(columns: ColumnsSpec, present: Sequence[str]) -> str:
    if columns.prompt in present and columns.completion in present:
        return "instructions"
    if columns.messages in present:
        return "chat"
    is_text = columns.text in present or tuple(present) == (TEXT_COLUMN,)
    return "text" if is_text else "none"


def bad_text(text: Any, column: str) -> Broken | None:
    """What is wrong with a text, if anything is."""
    if not isinstance(text, str):
        return Broken(f"the text (column {column!r}) must be a string", _shown(text))
    if not text.strip():
        return Broken(f"empty text (column {column!r})", hint="Remove the row")
    return _broken_unicode(text)


def bad_segment(text: str, column: str) -> Broken | None:
    """Whether a text holds the character that keeps prompts and completions apart."""
    if SEPARATOR not in text:
        return None
    message = f"the text (column {column!r}) holds the control character U+001E, which is reserved"
    return Broken(message, hint="Remove the character")


def as_name(value: Any, column: str) -> str | Broken:
    """A label or the name of a task as a string, or what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return Broken(f"column {column!r} must be a string or an integer", _shown(value))
    if not str(value).strip():
        return Broken(f"empty label or task (column {column!r})")
    return _broken_unicode(str(value)) or str(value)


def _plain_messages(value: Any, column: str) -> list[dict[str, str]] | Broken:
    """Messages as `{role, content}`, the last of them the assistant's or cut off after one."""
    wrong = Broken(
        f"column {column!r} must hold a list of messages {{role, content}}, with text in both",
        _shown(value),
    )
    if not isinstance(value, list) or not value:
        return wrong
    messages = []
    for message in value:
        if not isinstance(message, dict):
            return wrong
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            return wrong
        if role == "assistant" and not content.strip():
            return Broken("empty answer of the assistant", hint="Remove the row")
        broken = bad_segment(content, column) or _broken_unicode(content)
        if broken is not None:
            return broken
        messages.append({"role": role, "content": content})
    if not any(message["role"] == "assistant" for message in messages):
        return Broken("no message of the assistant: there is nothing to learn")
    return messages


def _broken_unicode(text: str) -> Broken | None:
    """Whether a text is none: the escapes of JSON can spell half of a surrogate pair."""
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return None
    return Broken("half a character (an unpaired surrogate)", hint="Save the row as UTF-8")


def _shown(value: Any) -> Any:
    return "null" if value is None else value

"""Read prompts in the forms people have them: text, conversations, HH transcripts; files or data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from constitute.config.data import ReadConfig
from constitute.data.records import Records, read_records
from constitute.data.rows import Sources, Unusable
from constitute.files import BadLine, Row
from constitute.hh import holds_turns, is_hh, parse_hh, split_answer
from constitute.store.spill import SpilledMap
from constitute.strict_yaml import shorten
from constitute.types import Message, Prompt

ROLES = ("system", "user", "assistant")
# OpenAI's name, since its o1, for what other models call a system message.
_DEVELOPER = "developer"
_TOOLS = ("tool", "function")
KEYS = ("prompt", "messages", "chosen")
READ = ReadConfig()


def read_prompts(
    sources: Sources, *, limit: int | None = None, skip_bad: bool = False, reading: ReadConfig = READ
) -> tuple[list[Prompt], list[BadLine]]:
    """The first `limit` prompts of a file or data set, or of several, and the lines that hold none.

    `rows.READERS` lists the kinds of files. A row's prompt is its `prompt` (text, HH transcript or
    messages), else its `messages`, else its `chosen` (HH transcript or messages) without the last answer;
    rows of the public shapes of `readers` have theirs.
    Ids are the given ones, else a hash of the content with `-2`, `-3`, … for repeats, so they stay when a
    file grows or changes order.
    Raises `UsageError` or `DataError` with file and line; with `skip_bad` bad lines are returned instead.
    """
    return read_records(
        sources, _converting(), "prompts", limit=limit, skip_bad=skip_bad, use="prompts", reading=reading
    )


def open_prompts(
    sources: Sources, *, limit: int | None = None, skip_bad: bool = False, reading: ReadConfig = READ
) -> Records[Prompt]:
    """As `read_prompts`, for files that need not fit in memory."""
    return Records(
        sources, _converting, "prompts", limit=limit, skip_bad=skip_bad, use="prompts", reading=reading
    )


def _converting() -> Callable[[Row, str], Prompt]:
    names = Names()

    def convert(row: Row, file: str) -> Prompt:
        messages = prompt_messages(row.value)
        return Prompt(id=names.take(row, content_id(messages)), messages=messages, source=file)

    return convert


class Names:
    """The ids of all rows that are read together: given ones as they are, the others made from content."""

    def __init__(self) -> None:
        self._taken = SpilledMap()
        # The number that the next row of a content gets, of contents that came more than once.
        self._next = SpilledMap()

    def take(self, row: Row, content: str) -> str:
        """The id of `row`. Raises `Unusable` where a given id is no text or number, empty or used before."""
        given = row.value.get("id")
        if given is None:
            name = content
            if not self._taken.add(name, row.where):
                number = int(self._next.get(content) or 2)
                while not self._taken.add(f"{content}-{number}", row.where):
                    number += 1
                name = f"{content}-{number}"
                self._next.put(content, str(number + 1))
        else:
            if isinstance(given, bool) or not isinstance(given, (str, int)) or given == "":
                raise Unusable(f"id must be text or a whole number, not {shorten(repr(given))}")
            name = clean(str(given), "id")
            if not self._taken.add(name, row.where):
                raise Unusable(f"the id {shorten(name)!r} is used before, at {self._taken.get(name)}")
        return name


def content_id(value: Sequence[Message], *more: str) -> str:
    """First 16 hex digits of the SHA-256 of a conversation and any texts that belong to it."""
    parts = [[[m.role, m.content] for m in value], *more]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def prompt_messages(value: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation up to the user's turn that a row asks to answer. Raises `Unusable`."""
    key = next((key for key in KEYS if value.get(key) is not None), None)
    if key is None:
        raise Unusable(f"none of the keys {', '.join(KEYS)}; found {keys_of(value)}")
    messages = (conversation if key == "prompt" else transcript)(value[key], key)
    given_as_prompt = key == "prompt" and not isinstance(value[key], str)
    if not given_as_prompt:
        # Transcripts and stored conversations end with the answer that is to be sampled anew.
        messages, _ = split_answer(messages)
    return ending_with_user(messages, key)


def keys_of(value: dict[str, Any]) -> str:
    """The keys of a row, as words of a message."""
    return shorten(", ".join(map(repr, value))) or "no key"


def ending_with_user(messages: tuple[Message, ...], key: str) -> tuple[Message, ...]:
    """`messages`, checked to end with something the user says. Raises `Unusable`."""
    if not messages:
        raise Unusable(f"{key} holds no turn of the user")
    if messages[-1].role != "user":
        raise Unusable(f"{key} ends with a turn of the {messages[-1].role}; the last must be the user's")
    if not messages[-1].content.strip():
        raise Unusable(f"{key} ends with an empty turn of the user")
    return messages


def conversation(value: Any, key: str) -> tuple[Message, ...]:
    """A conversation from text (one turn of the user), an HH transcript, or a list of messages."""
    if isinstance(value, str):
        text = clean(value, key)
        return parse_hh(text) if is_hh(text) else (Message(role="user", content=text),)
    return _messages(value, key)


def transcript(value: Any, key: str) -> tuple[Message, ...]:
    """A whole conversation, answers included, from an HH transcript or a list of messages."""
    if not isinstance(value, str):
        return _messages(value, key)
    if not holds_turns(value):
        raise Unusable(f"{key} is plain text and there is no prompt; add the key prompt")
    return parse_hh(clean(value, key))


def _messages(value: Any, key: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise Unusable(f"{key} must be text or a list of messages, not {shorten(repr(value))}")
    return tuple(_message(item, f"{key}[{i}]") for i, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if _is_of_a_tool(item):
        raise Unusable(f"{where} calls a tool or is a tool's answer; only conversations in text can be used")
    if not isinstance(item, dict) or "role" not in item or "content" not in item:
        raise Unusable(f"{where} must hold role and content, not {shorten(repr(item))}")
    role, content = item["role"], item["content"]
    if role == _DEVELOPER:
        role = "system"
    if role not in ROLES:
        raise Unusable(f"{where} has the role {shorten(repr(role))}; known are {', '.join(ROLES)}")
    if loss_weight(item, where) == 1 and role != "assistant":
        raise Unusable(f"{where} has the weight 1, and only turns of the assistant can be trained on")
    if isinstance(content, list):
        # No value stands in for a part without text.
        whole = content and all(map(_is_text, content))
        content = "".join(part["text"] for part in content) if whole else content
    if not isinstance(content, str):
        raise Unusable(f"{where} must have text as its content, not {shorten(repr(content))}")
    return Message(role=role, content=clean(content, where))


def loss_weight(item: dict[str, Any], where: str) -> int | None:
    """The `weight` of a message: 1 to train on it, 0 not to (OpenAI's fine-tuning format), None if unsaid."""
    weight = item.get("weight")
    if weight is None:
        return None
    if isinstance(weight, bool) or weight not in (0, 1):
        raise Unusable(f"{where} has the weight {shorten(repr(weight))}; known are 0 and 1")
    return int(weight)


def _is_of_a_tool(item: Any) -> bool:
    """Whether a message in OpenAI's form calls a tool, in which its content is often missing, or answers."""
    if not isinstance(item, dict):
        return False
    return item.get("role") in _TOOLS or bool(item.get("tool_calls") or item.get("function_call"))


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def clean(text: str, key: str) -> str:
    """`text` as it is; `Unusable` where it holds half a surrogate pair, which no file can store."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(
            f"{key} holds half a surrogate pair (\\ud800-\\udfff), which is no character"
        ) from None
    return text

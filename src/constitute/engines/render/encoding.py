"""Token ids of a rendered template around placeholders, the texts in their places staying text."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from constitute.engines.quarantine import added_ids, control_ids, quarantined, unknown_id
from constitute.errors import RowError
from constitute.types import Message

# A message as the template sees it: role, whitespace before its text, whitespace after, whether it has any.
Shape = tuple[str, str, str, bool]
# What a rendered conversation consists of: a control token's id, or text (with whether it opens the prompt).
Segment = int | tuple[str, bool]


class Encoder:
    """Encodes what lies between control tokens by a copy of the tokenizer that knows none (`quarantine`)."""

    def __init__(self, tokenizer: Any, template: str, ends: frozenset[int]) -> None:
        from tokenizers import Tokenizer

        state = json.loads(tokenizer.backend_tokenizer.to_str())
        self.control = control_ids(state, template) | (ends & added_ids(state))
        self._backend = tokenizer.backend_tokenizer
        self._encoders = {
            first: Tokenizer.from_str(quarantined(state, self.control, first=first))
            for first in (True, False)
        }
        # A character the tokenizer lacks becomes its "unknown" id: no text can choose that on purpose.
        self._forbidden = self.control - {unknown_id(state)}
        self._nonce = secrets.token_hex(8)
        self._placeholders = re.compile(f"q{self._nonce}x([0-9]+)z")
        self._segments = lru_cache(maxsize=4096)(self._split)

    def placeholder(self, index: int) -> str:
        """What stands in the template for the text of message `index`."""
        return f"q{self._nonce}x{index}z"

    def conversation(self, shapes: Sequence[Shape]) -> list[dict[str, str]]:
        """Messages for the template, with placeholders for texts."""
        return [
            {"role": role, "content": before + (self.placeholder(index) if filled else "") + after}
            for index, (role, before, after, filled) in enumerate(shapes)
        ]

    def fill(self, text: str, texts: Sequence[str], *, opens: bool = True) -> list[int]:
        """Ids of a template's `text` with `texts` in the place of its placeholders.

        `opens`: the text begins a prompt. Raises `RowError` for a text that is not valid Unicode.
        """
        try:
            for each in texts:
                each.encode()
        except UnicodeEncodeError:
            raise RowError(
                "a message holds lone surrogates and is not valid Unicode; repair the text"
            ) from None
        ids: list[int] = []
        for segment in self._segments(text, opens):
            if isinstance(segment, int):
                ids.append(segment)
                continue
            piece, first = segment
            filled = self._placeholders.sub(lambda found: texts[int(found[1])], piece)
            encoded = self._encoders[first].encode(filled, add_special_tokens=False).ids
            if not self._forbidden.isdisjoint(encoded):
                raise RowError("text of a message would become a control token of the model")
            ids.extend(encoded)
        return ids

    def _split(self, rendered: str, opens: bool) -> tuple[Segment, ...]:
        """The control tokens and the texts between them; `opens` where `rendered` begins a prompt."""
        encoding = self._backend.encode(rendered, add_special_tokens=False)
        segments: list[Segment] = []
        start = 0
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in self._forbidden:
                continue
            if begin > start:
                segments.append((rendered[start:begin], opens and start == 0))
            segments.append(token)
            start = end
        if start < len(rendered):
            segments.append((rendered[start:], opens and start == 0))
        return tuple(segments)


def texts_of(messages: Sequence[Message]) -> list[str]:
    """The messages' texts without the whitespace around them."""
    return [message.content.strip() for message in messages]


def shapes_of(messages: Sequence[Message]) -> tuple[Shape, ...]:
    """What a template can see of the messages apart from their texts."""
    return tuple(_shape(message) for message in messages)


def _shape(message: Message) -> Shape:
    text = message.content.strip()
    if not text:
        return (message.role, message.content, "", False)
    start = message.content.index(text)
    return (message.role, message.content[:start], message.content[start + len(text) :], True)

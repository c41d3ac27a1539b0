"""The HH text form, `\\n\\nHuman: …\\n\\nAssistant: …`, of Anthropic's hh-rlhf data: read and write it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from constitute.types import Message, Role

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_MARK = re.compile(r"\n\n(?:Human|Assistant):|\A(?:Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_NAMES: dict[Role, str] = {"user": "Human", "assistant": "Assistant"}


def is_hh(text: str) -> bool:
    """Whether `text` is a transcript: it opens with the human's turn mark after a blank line."""
    return text.startswith("\n\nHuman:") or (text.startswith("Human:") and "\n\nAssistant:" in text)


def holds_turns(text: str) -> bool:
    """Whether `text` reads as a transcript when it is known not to be a question.

    Unlike for `is_hh`, a preamble may stand before the human's first turn mark.
    """
    return is_hh(text) or "\n\nAssistant:" in text.partition("\n\nHuman:")[2]


def parse_hh(text: str) -> tuple[Message, ...]:
    """The turns of a transcript, whole, outer blanks stripped; text before the first is a system message.

    Only a mark after a blank line starts a turn, so colons, blank lines and names inside a turn stay.
    Turns of one speaker that follow each other are joined by a blank line, as chat templates want.
    """
    parts = _TURN.split(text)
    messages: list[Message] = []
    if preamble := parts[0].strip():
        messages.append(Message(role="system", content=preamble))
    for name, content in zip(parts[1::2], parts[2::2], strict=True):
        role, said = _ROLES[name], content.strip()
        if messages and messages[-1].role == role:
            said = f"{messages.pop().content}\n\n{said}".strip()
        messages.append(Message(role=role, content=said))
    return tuple(messages)


def split_answer(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """The turns before the last one of the assistant, and what that one says; empty where there is none."""
    if messages and messages[-1].role == "assistant":
        return tuple(messages[:-1]), messages[-1].content
    return tuple(messages), ""


def format_hh(messages: Sequence[Message], answer: str) -> str:
    """A transcript that ends with `answer`; a system message stands first, as a preamble without a mark.

    Raises `ValueError` where the transcript would read otherwise: a text holds a turn mark itself, or a
    system message comes later.
    """
    out = ""
    for place, message in enumerate((*messages, Message(role="assistant", content=answer))):
        if _MARK.search(message.content):
            raise ValueError(f"a turn of the {message.role} holds a turn mark of the HH form")
        if message.role != "system":
            out += f"\n\n{_NAMES[message.role]}: {message.content}"
        elif place == 0:
            out = message.content
        else:
            raise ValueError("a system message after the first turn has no place in the HH form")
    return out

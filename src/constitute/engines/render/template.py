"""Apply a chat template to conversations of placeholders, for a limited time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from constitute.errors import RowError
from constitute.templates import TemplateError

# Seconds that one rendering may take; an honest one takes a few milliseconds.
_LIMIT_S = 20.0
# What a template's own code may raise.
_TROUBLES = (
    TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    RecursionError,
    LookupError,
    AttributeError,
)


class Endless(RowError):
    """A chat template does not end."""


class ChatTemplate:
    """A tokenizer's chat template, or `text` in its place, with its variables set.

    `name` is the model's, for messages.
    """

    def __init__(
        self, tokenizer: Any, name: str, variables: Mapping[str, Any], text: str | None = None
    ) -> None:
        self.name = name
        self.text = str(tokenizer.get_chat_template()) if text is None else text
        self.variables = dict(variables)
        self._tokenizer = tokenizer

    def apply(self, conversation: Sequence[Mapping[str, Any]], *, generation: bool, **variables: Any) -> str:
        """What the template writes. Raises `RowError` where it refuses the conversation or does not end."""

        def work() -> str:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(turn) for turn in conversation],
                    chat_template=self.text,
                    tokenize=False,
                    add_generation_prompt=generation,
                    **{**self.variables, **variables},
                )
            )

        roles = ", ".join(str(turn["role"]) for turn in conversation)
        try:
            return within(_LIMIT_S, work)
        except TimeoutError:
            raise Endless(
                f"the chat template of {self.name!r} does not end within {_LIMIT_S:g} s on a conversation of "
                f"{roles}; give the model's folder another chat_template.jinja"
            ) from None
        except _TROUBLES as problem:
            raise RowError(
                f"the chat template of {self.name!r} refuses a conversation of {roles}: {problem}"
            ) from problem

    def attempt(
        self, conversation: Sequence[Mapping[str, Any]], *, generation: bool, **variables: Any
    ) -> str | None:
        """As `apply`; None where the template refuses."""
        try:
            return self.apply(conversation, generation=generation, **variables)
        except Endless:
            raise
        except RowError:
            return None


def within(seconds: float, work: Callable[[], str]) -> str:
    """`work()`, or `TimeoutError` once it takes longer.

    The work runs in a thread of its own, which is then stopped between two steps of Python; a single step
    in C, such as a product of a huge string, cannot be stopped.
    """
    result: list[str] = []
    trouble: list[BaseException] = []

    def target() -> None:
        try:
            result.append(work())
        except BaseException as problem:
            trouble.append(problem)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeoutError)
        )
        raise TimeoutError
    if trouble:
        raise trouble[0]
    return result[0]

"""The shapes of a server's answers, as far as they are read; strict, so that no value is made to fit.

Of log-probabilities NaN and values above `ABOVE_ZERO` are refused; rounding above 0 is taken away.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from constitute.types import ABOVE_ZERO


def _logprob(value: float) -> float:
    if math.isnan(value):
        raise ValueError("NaN is no log-probability")
    if value > ABOVE_ZERO:
        raise ValueError(f"{value:g} is above 0, so no log-probability")
    return min(value, 0.0)


def _whole(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character (a lone surrogate)") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]
LogProb = Annotated[float, AfterValidator(_logprob)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Listed(_Read):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: LogProb
    bytes: list[int] | None = None


class Position(_Read):
    """A token of the answer and the likeliest ones in its place."""

    token: str
    logprob: LogProb
    top_logprobs: list[Listed] | None = None


class Part(_Read):
    """A part of a message's content."""

    type: str
    text: Text | None = None
    thinking: Text | list[Part] | None = None


class Message(_Read):
    """What the assistant said."""

    content: Text | list[Part] | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    refusal: str | None = None


class ChatLogprobs(_Read):
    """The tokens of a chat answer."""

    content: list[Position] | None = None


class ChatChoice(_Read):
    """One answer of /v1/chat/completions."""

    message: Message = Message()
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class TextLogprobs(_Read):
    """The tokens of a completion."""

    token_logprobs: list[LogProb | None] | None = None
    top_logprobs: list[dict[str, LogProb | None] | None] | None = None


class Given(_Read):
    """A token of a given text."""

    logprob: LogProb


class ScoreChoice(_Read):
    """One answer of /v1/completions, as far as its log-probabilities go."""

    logprobs: TextLogprobs | None = None
    prompt_logprobs: list[dict[str, Given] | None] | None = None


class TextChoice(ScoreChoice):
    """One answer of /v1/completions."""

    text: Text
    finish_reason: str | None = None
    token_ids: list[TokenId] | None = None

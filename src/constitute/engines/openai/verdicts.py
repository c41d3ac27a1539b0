"""What a final HTTP status means for the row or for the run; pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from constitute.engines.openai.wire_in import message_of
from constitute.errors import EngineError, Filtered, PromptTooLong, RowError

# Passing trouble: the same request may be answered a little later. 429 is apart: it only says "slower".
RETRIED = frozenset({408, 409, 425}) | frozenset(range(500, 600))
_TOO_LONG = re.compile(
    r"context length|context window|context size|too long|longer than|maximum.{0,40}tokens"
    r"|exceeds? the (?:available|model'?s?) context",
    re.IGNORECASE,
)
_FILTER = re.compile(
    r"content[_ ]filter|content management policy|content policy|safety system|flagged", re.IGNORECASE
)
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_DIGITS = re.compile(r"[0-9]+")


def error_for(
    status: int, body: Any, *, url: str, model: str, served: Sequence[str], key_env: str
) -> Exception:
    """The exception that a final HTTP status means."""
    said = message_of(body)
    if status in (400, 413, 422):
        if _TOO_LONG.search(said):
            return PromptTooLong(f"the server refuses the prompt as too long: {said}")
        if _FILTER.search(f"{_code(body)} {said}"):
            return Filtered(f"the server's filter refuses the prompt ({status})")
        return RowError(f"the server refuses the request ({status}): {said}")
    if status in (401, 403):
        if _FILTER.search(f"{_code(body)} {said}"):
            return Filtered(f"the server's filter refuses the prompt ({status})")
        return EngineError(f"{url} refuses access ({status}): put a valid key into ${key_env}")
    if status == 402:
        return spent(url, said)
    if status == 404:
        names = ", ".join(served[:20]) or "none"
        return EngineError(
            f"{url} does not serve {model!r} ({said}); served: {names}; set engine.served_name"
        )
    if 300 <= status < 400:
        return EngineError(f"{url} redirects elsewhere ({status}), which is not followed; give the final URL")
    return RowError(f"the server answers {status}: {said}")


def out_of_quota(body: Any) -> bool:
    """Whether a 429 says that the account has nothing left, which no waiting mends."""
    return _code(body) in _SPENT


def spent(url: str, said: str) -> EngineError:
    """The account has no credit left."""
    return EngineError(f"{url} has no credit left for this key ({said}); add some and run again")


def only_limited(url: str, said: str, waited_s: float) -> EngineError:
    """Nothing but 429 came for too long."""
    return EngineError(
        f"{url} answered every request for {waited_s:g} s with 429, too many requests ({said}); set "
        "engine.requests_per_minute or engine.tokens_per_minute to the limit of your account, or run again "
        "later"
    )


def refuses_all(url: str, status: int, said: str, rows: int) -> EngineError:
    """The first requests of a run were all refused in the same words."""
    return EngineError(
        f"{url} refused the first {rows} requests in the same words ({status}: {said}); change what it "
        "refuses, or take another server or model"
    )


def in_an_answer(body: Any) -> int:
    """The status of an error that came with status 200, as some gateways send it; 0 for an answer."""
    error = body.get("error") if isinstance(body, dict) and not body.get("choices") else None
    if not error:
        return 0
    code = error.get("code") if isinstance(error, dict) else None
    return code if type(code) is int and 400 <= code < 600 else 502


def same_words(said: str) -> str:
    """A message without its numbers, to compare it with others."""
    return _DIGITS.sub("#", said)


def _code(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ""
    code, kind = error.get("code"), error.get("type")
    found = [part for part in (code, kind) if isinstance(part, str)]
    return next((part for part in found if part in _SPENT), found[0] if found else "")

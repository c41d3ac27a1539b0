"""What comes back from an OpenAI-compatible server, read through a schema; pure functions.

Whatever is of another type than `schema` says, missing where it is needed, or no number fails the row with
the reason. Of log-probabilities, the placeholder -9999.0 (OpenAI's for a token that is not among the
likeliest, vLLM's for one that is masked), -Infinity and all below `UNSCORED` say that a token was not scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from constitute.engines.openai.schema import ChatChoice, Part, Position, ScoreChoice, TextChoice
from constitute.errors import EngineError, Filtered, RowError
from constitute.text import harmless
from constitute.types import MASS_ABOVE_ONE, Completion, FinishReason

# exp() of less is 0 as a float: no model's own log-probability, but a placeholder.
UNSCORED = -700.0
# The first token of a turn that begins with reasoning, in templates of widely used models.
_THOUGHT = ("<think", "[THINK]", "<|channel|>", "<|START_THINKING|>", "<seed:think>", "◁think▷")
_ENDS: Mapping[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length"), "length"),
}


def parsed(data: bytes) -> Any:
    """The JSON value in a body, or its first characters as text where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data[:300].decode("utf-8", "replace")


def message_of(body: Any) -> str:
    """The error text inside a server's answer, at most 300 characters, fit for a terminal."""
    if isinstance(body, dict):
        error = body.get("error", body)
        text = error.get("message", error) if isinstance(error, dict) else error
    else:
        text = body
    return " ".join(harmless(str(text)[:2000]).split())[:300]


def read_chat(body: Mapping[str, Any], budget: int) -> Completion:
    """Completion from a /v1/chat/completions answer that `budget` tokens were given to.

    Raises `Filtered` where it was withheld and `RowError` for one cut off by anything but its length.
    """
    choice: ChatChoice = _choice(body, ChatChoice)
    message = choice.message
    if message.refusal:
        raise Filtered("the server's filter withheld the answer (refusal)")
    end = _end(choice.finish_reason)
    thought, text = _texts(message.content)
    reasoning = message.reasoning or message.reasoning_content or thought
    if not text and not reasoning and _hidden_thoughts(body) and end == "length":
        raise RowError(
            f"thinking that the server does not show used all {budget} tokens; raise the stage's max_tokens "
            "or thinking_tokens"
        )
    if text is None and not (reasoning and end == "length"):
        raise RowError("the server's answer holds reasoning and no text" if reasoning else _NO_TEXT)
    return Completion(
        text=text or "", reasoning=reasoning or "", finish_reason=end, prompt_tokens=_prompt_tokens(body)
    )


_NO_TEXT = "the server's answer holds no text"


def read_completion(body: Mapping[str, Any]) -> Completion:
    """Completion from a /v1/completions answer; raises as `read_chat` does."""
    return _completed(_choice(body, TextChoice), body)


def read_rollout(body: Mapping[str, Any], *, logprobs: bool) -> Completion:
    """A completion with its token ids, and with one log-probability a token (nats) where asked for."""
    choice: TextChoice = _choice(body, TextChoice)
    completion = _completed(choice, body)
    if not completion.token_ids:
        raise EngineError("the server leaves out token ids; it needs vLLM 0.20 or newer for return_token_ids")
    if not logprobs:
        return completion
    found = (choice.logprobs and choice.logprobs.token_logprobs) or []
    scored = [value for value in found if value is not None and value > UNSCORED]
    if len(scored) != len(completion.token_ids):
        raise EngineError(
            f"the server gave {len(scored)} log-probabilities for {len(completion.token_ids)} tokens; "
            "serve the model with `constitute serve --rollouts`"
        )
    return completion.model_copy(update={"logprobs": tuple(scored)})


def read_scores(body: Mapping[str, Any], tokens: Sequence[int]) -> dict[int, float] | None:
    """Log-probability of each of `tokens` from an answer to `scoring_payload`.

    None where the server answered with its own likeliest tokens: it does not know `logprob_token_ids`.
    Raises `RowError` for a token that it named and did not score.
    """
    choice: ScoreChoice = _choice(body, ScoreChoice)
    places = (choice.logprobs and choice.logprobs.top_logprobs) or []
    top = (places[0] if places else None) or {}
    found = {token: top.get(f"token_id:{token}") for token in tokens}
    if any(f"token_id:{token}" not in top for token in tokens):
        return None
    return {token: _scored(value, token) for token, value in found.items()}


def read_given(body: Mapping[str, Any], tokens: Sequence[int], start: int) -> list[float]:
    """log P (nats) of `tokens[start:]` from an answer to `given_payload`."""
    choice: ScoreChoice = _choice(body, ScoreChoice)
    places = choice.prompt_logprobs or []
    if len(places) != len(tokens):
        raise RowError(
            f"the server gave log-probabilities of {len(places)} of {len(tokens)} prompt tokens; serve the "
            "model with vLLM (`constitute serve`)"
        )
    found = []
    for place in range(start, len(tokens)):
        entry = (places[place] or {}).get(str(tokens[place]))
        found.append(_scored(None if entry is None else entry.logprob, tokens[place]))
    return found


def read_positions(body: Mapping[str, Any]) -> list[Position]:
    """The first tokens of a chat answer, each with the likeliest in its place, those not scored left out.

    Raises `RowError` where there are none, a token is listed twice, or the probabilities of a position add
    up to more than 1, and where the answer begins with reasoning.
    """
    choice: ChatChoice = _choice(body, ChatChoice)
    if choice.message.refusal:
        raise Filtered("the server's filter withheld the answer (refusal)")
    if choice.finish_reason is not None:
        _end(choice.finish_reason)
    found = (choice.logprobs and choice.logprobs.content) or []
    if not found or not found[0].top_logprobs:
        raise RowError(
            "the server gives no log-probabilities; set label.votes=sampled, or choose a server that does"
        )
    if found[0].token.strip().startswith(_THOUGHT):
        raise RowError(
            "the model thinks before it answers, so its first token is no answer; turn that off with "
            "engine.chat_template_kwargs, or set label.votes=sampled"
        )
    return [_checked(position) for position in found]


def _checked(position: Position) -> Position:
    listed = [entry for entry in position.top_logprobs or () if entry.logprob > UNSCORED]
    # Halves of characters are all written as the same mark, and control tokens may be written as nothing.
    named = [entry.token for entry in listed if entry.token.strip() and "\ufffd" not in entry.token]
    twice = next((token for place, token in enumerate(named) if token in named[:place]), None)
    if twice is not None:
        raise RowError(f"the server lists the token {harmless(twice)[:40]!r} twice among the likeliest")
    values = [entry.logprob for entry in listed]
    if all(entry.token != position.token for entry in listed):
        values.append(position.logprob)
    total = math.fsum(map(math.exp, values))
    if total > 1.0 + MASS_ABOVE_ONE:
        raise RowError(f"the probabilities that the server lists for one place add up to {total:.4g}")
    return position.model_copy(update={"top_logprobs": listed})


def _choice(body: Mapping[str, Any], kind: type[Any]) -> Any:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise RowError("the server's answer holds no choices")
    try:
        return kind.model_validate(choices[0])
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(harmless(str(part))[:40] for part in ("choices", 0, *first["loc"]))
        raise RowError(f"the server's answer is malformed at {place}: {first['msg']}") from None


def _end(reason: str | None) -> FinishReason:
    if reason is not None and reason in _ENDS:
        return _ENDS[reason]
    if reason in ("content_filter", "refusal", "safety", "sensitive"):
        raise Filtered(f"the server's filter withheld the answer ({reason})")
    raise RowError(f"the server ended the completion with {harmless(repr(reason))[:60]}, not stop or length")


def _completed(choice: TextChoice, body: Mapping[str, Any]) -> Completion:
    return Completion(
        text=choice.text,
        token_ids=tuple(choice.token_ids or ()),
        finish_reason=_end(choice.finish_reason),
        prompt_tokens=_prompt_tokens(body),
    )


def _texts(content: str | list[Part] | None) -> tuple[str, str | None]:
    """(reasoning, text) of a message; text None where there is none."""
    if content is None or isinstance(content, str):
        return "", content
    thought, said = [], []
    for part in content:
        if part.type in ("text", "output_text") and part.text is not None:
            said.append(part.text)
        elif part.type == "refusal":
            raise Filtered("the server's filter withheld the answer (refusal)")
        elif part.type in ("thinking", "reasoning"):
            inner = part.thinking if part.thinking is not None else part.text
            thought.append(inner if isinstance(inner, str) else _texts(inner)[1] or "")
        else:
            raise RowError(
                f"the server's answer holds a part of type {harmless(part.type)[:40]!r} without text"
            )
    return "".join(thought), "".join(said) if said else None


def _scored(value: float | None, token: int) -> float:
    if value is None or value <= UNSCORED:
        raise RowError(f"the server did not score token {token} ({value}); the model may not write it")
    return value


def _usage(body: Mapping[str, Any]) -> Mapping[str, Any]:
    usage = body.get("usage")
    return usage if isinstance(usage, dict) else {}


def _count(value: Any) -> int | None:
    """A count of tokens; None for anything else, which is no reason to lose the answer."""
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def _prompt_tokens(body: Mapping[str, Any]) -> int | None:
    return _count(_usage(body).get("prompt_tokens"))


def _hidden_thoughts(body: Mapping[str, Any]) -> bool:
    details = _usage(body).get("completion_tokens_details")
    return isinstance(details, dict) and bool(_count(details.get("reasoning_tokens")))


def tokens_used(body: Any) -> int | None:
    """Tokens of prompt and answer together, None where the server does not say."""
    usage = _usage(body) if isinstance(body, dict) else {}
    counts = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    return None if None in counts else sum(count for count in counts if count is not None)

"""What goes over the wire to an OpenAI-compatible server, and what comes back; pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from constitute.errors import EngineError, PromptTooLong, RowError
from constitute.types import Choice, Completion, Message, Request, SamplingParams

Payload = dict[str, Any]

# Text that some widespread chat template uses as a control token. A server that takes messages may turn
# it into one, so it is broken up before it is sent.
_CONTROL = re.compile(
    r"<\|[^|<>\n]{1,64}\|>|<｜[^｜<>\n]{1,64}｜>"
    r"|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn|end_of_text|/?think|/?tool_call|/?tool_response)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]|<</?SYS>>",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context length|context window|too long|longer than|maximum.{0,40}tokens", re.IGNORECASE
)
# Top log-probabilities a server grants at most (OpenAI's limit, and vLLM's default).
TOP_LOGPROBS = 20
# What vLLM would else take from the served model's generation_config.json.
_NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


def escaped(text: str) -> tuple[str, int]:
    """`text` with a space put inside everything that looks like a control token, and how many there were."""
    return _CONTROL.subn(lambda found: found[0][0] + " " + found[0][1:], text)


def escaped_messages(messages: Sequence[Message]) -> tuple[list[Payload], int]:
    """Messages as the chat endpoint takes them, escaped, and how many places were."""
    sent, total = [], 0
    for message in messages:
        text, count = escaped(message.content)
        sent.append({"role": message.role, "content": text})
        total += count
    return sent, total


def completion_payload(
    model: str, prompt: Sequence[int], sampling: SamplingParams, limit: int | None
) -> Payload:
    """Body of vLLM's /v1/completions for token ids; no default of the server's is left to act."""
    room = sampling.max_tokens if limit is None else min(sampling.max_tokens, limit - len(prompt))
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": room,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop": list(sampling.stop),
        "seed": sampling.seed,
        "return_token_ids": True,
        **_NEUTRAL,
    }


def scoring_payload(model: str, prompt: Sequence[int], tokens: Sequence[int]) -> Payload:
    """Body of vLLM's /v1/completions that returns the log-probabilities of exactly `tokens`."""
    return {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": len(tokens),
        "logprob_token_ids": list(tokens),
        "return_tokens_as_token_ids": True,
    }


def rollout_payload(
    model: str, prompt: Sequence[int], sampling: SamplingParams, limit: int | None, *, logprobs: bool
) -> Payload:
    """`completion_payload`, with log-probabilities of the sampled tokens alone where asked for."""
    asked: Payload = {"logprobs": 0} if logprobs else {}
    return {**completion_payload(model, prompt, sampling, limit), **asked}


def given_payload(model: str, tokens: Sequence[int]) -> Payload:
    """Body of vLLM's /v1/completions that returns the log-probability of every one of `tokens`."""
    return {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
    }


def chat_payload(
    model: str, messages: list[Payload], sampling: SamplingParams, *, is_vllm: bool = False
) -> Payload:
    """Body of /v1/chat/completions with every field that the request sets.

    vLLM gets all its sampling fields, so that no default of the served model acts. Other servers get those
    that every server knows, and `top_k` where the request sets it: a server that has none refuses the row.
    """
    payload: Payload = {
        "model": model,
        "messages": messages,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if is_vllm:
        payload |= _NEUTRAL
    if is_vllm or "top_k" in sampling.model_fields_set:
        payload["top_k"] = sampling.top_k
    if sampling.stop:
        payload["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        payload["seed"] = sampling.seed
    return payload


def chat_scoring_payload(model: str, messages: list[Payload]) -> Payload:
    """Body of /v1/chat/completions that returns the likeliest first tokens."""
    return {
        "model": model,
        "messages": messages,
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RowError("the server's answer holds no choices")
    return choices[0]


def _finished(choice: Mapping[str, Any], text: Any, body: Mapping[str, Any]) -> Completion:
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise RowError(f"the server ended the completion with {reason!r}, not stop or length")
    if not isinstance(text, str):
        raise RowError("the server's answer holds no text")
    usage = body.get("usage") or {}
    return Completion(
        text=text,
        token_ids=tuple(choice.get("token_ids") or ()),
        finish_reason=reason,
        prompt_tokens=usage.get("prompt_tokens"),
    )


def read_completion(body: Mapping[str, Any]) -> Completion:
    """Completion from a /v1/completions answer; raises `RowError` for one cut off by anything else."""
    choice = _first_choice(body)
    return _finished(choice, choice.get("text"), body)


def read_chat(body: Mapping[str, Any]) -> Completion:
    """Completion from a /v1/chat/completions answer."""
    choice = _first_choice(body)
    return _finished(choice, (choice.get("message") or {}).get("content"), body)


def read_scores(body: Mapping[str, Any], tokens: Sequence[int]) -> dict[int, float]:
    """Log-probability of each of `tokens` from an answer to `scoring_payload`."""
    logprobs = _first_choice(body).get("logprobs") or {}
    top = (logprobs.get("top_logprobs") or [{}])[0] or {}
    missing = [token for token in tokens if f"token_id:{token}" not in top]
    if missing:
        raise EngineError(
            f"the server left out log-probabilities of tokens {missing[:3]}; it needs vLLM 0.20 or newer "
            "for logprob_token_ids"
        )
    return {token: float(top[f"token_id:{token}"]) for token in tokens}


def read_rollout(body: Mapping[str, Any], *, logprobs: bool) -> Completion:
    """A completion with its token ids, and with one log-probability a token (nats) where asked for."""
    completion = read_completion(body)
    if not completion.token_ids:
        raise EngineError("the server leaves out token ids; it needs vLLM 0.20 or newer for return_token_ids")
    if not logprobs:
        return completion
    found = (_first_choice(body).get("logprobs") or {}).get("token_logprobs") or []
    if len(found) != len(completion.token_ids) or None in found:
        raise EngineError(
            f"the server gave {len(found)} log-probabilities for {len(completion.token_ids)} tokens; "
            "serve the model with `constitute serve --rollouts`"
        )
    return completion.model_copy(update={"logprobs": tuple(float(value) for value in found)})


def read_given(body: Mapping[str, Any], tokens: Sequence[int], start: int) -> list[float]:
    """log P (nats) of `tokens[start:]` from an answer to `given_payload`."""
    places = _first_choice(body).get("prompt_logprobs") or []
    if len(places) != len(tokens):
        raise EngineError(
            f"the server gave log-probabilities of {len(places)} of {len(tokens)} prompt tokens; serve the "
            "model with `constitute serve --rollouts`"
        )
    return [float(places[place][str(tokens[place])]["logprob"]) for place in range(start, len(tokens))]


def read_top_logprobs(body: Mapping[str, Any], labels: Sequence[str]) -> Choice:
    """A choice from the likeliest first tokens; None for a label that is not among them.

    Tokens that differ in surrounding whitespace only say the same label, and their probabilities add up.
    A label of several tokens is never among them.
    """
    logprobs = _first_choice(body).get("logprobs") or {}
    content = logprobs.get("content") or []
    if not content:
        raise RowError("the server gives no log-probabilities; choose a model or server that does")
    top = content[0].get("top_logprobs") or []
    found: dict[str, list[float]] = {}
    for entry in top:
        found.setdefault(str(entry["token"]).strip(), []).append(float(entry["logprob"]))
    values = [found.get(label.strip()) for label in labels]
    return Choice(
        labels=tuple(labels),
        logprobs=tuple(math.log(sum(map(math.exp, v))) if v else None for v in values),
    )


def message_of(body: Any) -> str:
    """The error text inside a server's answer, at most 300 characters."""
    if isinstance(body, dict):
        error = body.get("error", body)
        text = error.get("message", error) if isinstance(error, dict) else error
    else:
        text = body
    return " ".join(str(text).split())[:300]


def error_for(
    status: int, body: Any, *, url: str, model: str, served: Sequence[str], key_env: str
) -> Exception:
    """The exception that a final HTTP status means."""
    said = message_of(body)
    if status in (400, 413, 422):
        if _TOO_LONG.search(said):
            return PromptTooLong(f"the server refuses the prompt as too long: {said}")
        return RowError(f"the server refuses the request ({status}): {said}")
    if status in (401, 403):
        return EngineError(f"{url} refuses access ({status}): put a valid key into ${key_env}")
    if status == 404:
        names = ", ".join(served) or "none"
        return EngineError(
            f"{url} does not serve {model!r} ({said}); served: {names}; set engine.served_name"
        )
    if 300 <= status < 400:
        return EngineError(f"{url} redirects elsewhere ({status}), which is not followed; give the final URL")
    return RowError(f"the server answers {status}: {said}")


def request_json(request: Request) -> list[list[str]]:
    """Messages and prefill as plain lists, for a cache key where token ids are unknown."""
    return [*([message.role, message.content] for message in request.messages), ["prefill", request.prefill]]

"""What goes over the wire to an OpenAI-compatible server; pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from constitute.engines.openai.control import escaped
from constitute.engines.render import both_budgets
from constitute.errors import UsageError
from constitute.types import Request, SamplingParams

Payload = dict[str, Any]

# Top log-probabilities a server grants at most (OpenAI's limit, and vLLM's default).
TOP_LOGPROBS = 20
# Tokens asked for where options are read: room for an opening such as `**(` before the option.
OPTION_TOKENS = 4
# Everything else that vLLM would take from the served model's generation_config.json
# (`ModelConfig.get_diff_sampling_param`); its max_new_tokens is a ceiling that no request can lift.
_NEUTRAL = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
# Fields that a server may refuse, and that every request would hold otherwise.
OPTIONAL = ("temperature", "top_p", "seed", "stop")


@dataclass(frozen=True)
class Dialect:
    """What a server that gets messages takes and gives, as its answers to a first request showed.

    `budget` is the field that limits an answer. `temperature` says which it takes: any, 1 alone, or no such
    field. `refused` are the fields of `OPTIONAL` that it refuses, and `top` is how many of the likeliest
    tokens it lists, 0 where it gives no log-probabilities. `extra` is sent with every request.
    """

    is_vllm: bool = False
    budget: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: Literal["any", "one", "none"] = "any"
    refused: frozenset[str] = frozenset()
    top: int = TOP_LOGPROBS
    extra: Mapping[str, Any] = field(default_factory=dict)

    def said(self) -> str:
        """What is known of the server's own doing, for cache keys; the same for the same server."""
        parts = [f"messages; {self.budget}; temperature {self.temperature}; {self.top} log-probabilities"]
        if self.refused:
            parts.append("takes no " + ", ".join(sorted(self.refused)))
        if self.extra:
            parts.append(repr(sorted(self.extra.items())))
        if not self.is_vllm:
            parts.append("fields that are not sent are of its own choice")
        return "; ".join(parts)


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
        **_NEUTRAL,
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
        **_NEUTRAL,
    }


def chat_payload(
    model: str, messages: Sequence[Payload], request: Request, dialect: Dialect, *, where: str
) -> Payload:
    """Body of /v1/chat/completions with every field that the request sets and the server takes.

    vLLM gets all its sampling fields, so that no default of the served model acts; other servers get `top_k`
    where the request sets it. The budget is that of thinking and answer together. A field that the server
    refuses is left out where that changes nothing; `UsageError` says where it would, naming the server at
    `where`.
    """
    sampling = both_budgets(request)
    payload: Payload = {
        "model": model,
        "messages": [*messages, *_begun(request)],
        dialect.budget: sampling.max_tokens,
        **_begun_fields(request),
        **template_fields(dialect, thinks=request.thinking > 0),
    }
    if dialect.temperature == "any" or sampling.temperature == 1.0:
        if dialect.temperature != "none":
            payload["temperature"] = sampling.temperature
    else:
        raise _not_taken("temperature", sampling.temperature, where)
    if "top_p" not in dialect.refused:
        payload["top_p"] = sampling.top_p
    elif sampling.top_p != 1.0:
        raise _not_taken("top_p", sampling.top_p, where)
    if dialect.is_vllm:
        payload |= {**_NEUTRAL, "top_k": sampling.top_k}
    elif sampling.top_k:
        payload["top_k"] = sampling.top_k
    # Where the server takes none, the answer is cut here all the same.
    if sampling.stop and "stop" not in dialect.refused:
        payload["stop"] = list(sampling.stop)
    if sampling.seed is not None and "seed" not in dialect.refused:
        payload["seed"] = sampling.seed
    return payload


def chat_scoring_payload(
    model: str, messages: Sequence[Payload], request: Request, dialect: Dialect
) -> Payload:
    """Body of /v1/chat/completions that returns the likeliest tokens at the beginning of the answer.

    They are of the model's own distribution at any temperature, so a server that takes none gets none.
    """
    payload: Payload = {
        "model": model,
        "messages": [*messages, *_begun(request)],
        dialect.budget: OPTION_TOKENS,
        "logprobs": True,
        "top_logprobs": dialect.top,
        **_begun_fields(request),
        **template_fields(dialect, thinks=request.thinking > 0),
    }
    if dialect.temperature == "any":
        payload["temperature"] = 0.0
    if dialect.is_vllm:
        payload |= {**_NEUTRAL, "top_p": 1.0, "top_k": 0}
    return payload


def extra_fields(kwargs: Mapping[str, Any], *, is_vllm: bool) -> Payload:
    """What `engine.chat_template_kwargs` adds to every request.

    vLLM hands all of them to the template. Other servers get `reasoning_effort` as a field of its own, as
    OpenAI takes it, and the rest under the name that vLLM, SGLang and llama.cpp share.
    """
    own = {} if is_vllm else {name: kwargs[name] for name in ("reasoning_effort",) if name in kwargs}
    rest = {name: value for name, value in kwargs.items() if name not in own}
    return {**own, **({"chat_template_kwargs": rest} if rest else {})}


def answer_cap(payload: Payload) -> int:
    """Bytes that an answer to `payload` can have at most; a longer one is none.

    A token is at most 32 characters of which each is escaped in 6 bytes, and 256 bytes of fields; the
    prompt may come back as well.
    """
    budget = int(payload.get("max_tokens") or payload.get("max_completion_tokens") or 0)
    listed = 2 + int(payload.get("top_logprobs") or 0) + int(payload.get("logprobs") or 0)
    prompt = payload.get("prompt") or payload.get("messages") or ()
    back = len(prompt) if "prompt" in payload else sum(len(turn["content"]) for turn in prompt)
    scored = len(prompt) if "prompt_logprobs" in payload else 0
    return (1 << 20) + 448 * (budget * listed + scored) + 16 * back


def cost_of(payload: Payload) -> int:
    """Tokens that a request may use, before its answer says: its prompt, and all that it may sample."""
    budget = int(payload.get("max_tokens") or payload.get("max_completion_tokens") or 0)
    if "prompt" in payload:
        return len(payload["prompt"]) + budget
    # About four characters a token in English.
    return sum(8 + len(turn["content"]) // 4 for turn in payload["messages"]) + budget


def request_json(request: Request) -> list[list[str]]:
    """Messages and prefill as plain lists, for a cache key where token ids are unknown."""
    return [*([message.role, message.content] for message in request.messages), ["prefill", request.prefill]]


def _begun(request: Request) -> list[Payload]:
    return [{"role": "assistant", "content": escaped(request.prefill)[0]}] if request.prefill else []


def _begun_fields(request: Request) -> Payload:
    """vLLM's fields to go on from a begun answer."""
    return {"add_generation_prompt": False, "continue_final_message": True} if request.prefill else {}


def template_fields(dialect: Dialect, *, thinks: bool) -> Payload:
    """The dialect's own fields; vLLM's template is also told whether to think.

    A variable that a template does not have does nothing.
    """
    if not dialect.is_vllm:
        return dict(dialect.extra)
    named = dialect.extra.get("chat_template_kwargs", {})
    return {**dialect.extra, "chat_template_kwargs": {"enable_thinking": thinks, "thinking": thinks, **named}}


def _not_taken(name: str, value: float, where: str) -> UsageError:
    only = "1" if name == "temperature" else "1.0"
    return UsageError(
        f"{where} takes no {name} of {value:g}, only its own; set {name} to {only} in the stages that ask "
        "it, or take another model"
    )

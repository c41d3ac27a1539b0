"""Find out by one tiny request what a server that gets messages takes and gives.

The first request asks for one token with every field that requests may hold. What the server refuses is left
out in the order in which it names it, until it answers; a refusal costs nothing. A server that does not say
what it refuses is asked for each field by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitute.engines.base import Ability
from constitute.engines.openai import verdicts
from constitute.engines.openai.limits import pause
from constitute.engines.openai.probe import Server
from constitute.engines.openai.reach import Access, Reply, ask
from constitute.engines.openai.wire_in import message_of
from constitute.engines.openai.wire_out import OPTIONAL, Dialect, Payload, template_fields
from constitute.errors import EngineError, UsageError

# What is asked: any model has an answer, and a test can tell it from a row.
FIRST_WORDS = "Answer with the letter A and nothing else."
_STEPS = (20, 10, 5, 3, 2, 1, 0)
_MOST_ASKED = 16
_MOST_TROUBLE = 4
# A model that thinks at all may need more than one token, and then says so: it took the request.
_ANSWERED_ALL_THE_SAME = re.compile(r"could not finish|limit was reached", re.IGNORECASE)

# (payload) -> the server's answer.
Ask = Callable[[Payload], Reply]


@dataclass(frozen=True)
class Found:
    """What a server takes and gives, and whether its answer held reasoning."""

    dialect: Dialect
    thinks: bool = False


def find_out(servers: Sequence[Server], access: Access, extra: Payload, timeout_s: float) -> Found:
    """Ask the first server at most `_MOST_ASKED` times for one token, the others once; wait for a busy one.

    Raises `EngineError` where it does not answer even the plainest request, and `UsageError` where another
    does not take what it takes.
    """
    server = servers[0]
    first = Dialect(is_vllm=server.is_vllm, extra=extra)

    def say(payload: Payload) -> Reply:
        return _patiently(server, access, {"model": server.model, **payload}, timeout_s)

    found, asked = learn(first, say)
    if isinstance(found, Reply):
        problem = verdicts.error_for(
            found.status,
            found.body,
            url=server.base,
            model=server.model,
            served=server.served,
            key_env=access.key_env,
        )
        if isinstance(problem, EngineError):
            raise problem
        raise EngineError(
            f"{server.base} refuses the plainest request after {asked} tries: {problem}"
        ) from problem
    for other in servers[1:]:
        reply = _patiently(other, access, {"model": other.model, **_tiny(found.dialect)}, timeout_s)
        if not _answers(reply) or _found(found.dialect, reply).dialect != found.dialect:
            raise UsageError(
                f"engine.endpoints: {other.base} does not answer as {server.base} does ({reply.status}: "
                f"{message_of(reply.body)}); start both alike"
            )
    return found


def learn(first: Dialect, say: Ask) -> tuple[Found | Reply, int]:
    """(what was found out, requests made), or the last refusal where nothing is answered."""
    dialect, asked = first, 0
    while asked < _MOST_ASKED:
        reply = say(_tiny(dialect))
        asked += 1
        if _answers(reply):
            return _found(dialect, reply), asked
        if reply.status not in (400, 422):
            return reply, asked
        smaller = without(dialect, reply.body)
        if smaller is None:
            break
        dialect = smaller
    else:
        return reply, asked
    return _one_by_one(first, say, asked)


def without(dialect: Dialect, body: Any) -> Dialect | None:
    """`dialect` without what the refusal `body` names; None where it names nothing of it."""
    said = message_of(body)
    name = _named(dialect, body, said)
    if name in ("max_tokens", "max_completion_tokens"):
        return replace(dialect, budget="max_completion_tokens") if dialect.budget == "max_tokens" else None
    if name == "temperature":
        return replace(dialect, temperature="one" if dialect.temperature == "any" else "none")
    if name in ("logprobs", "top_logprobs"):
        # A limit is a number; a server that gives none at all has none to say.
        steps = [step for step in _STEPS if step < dialect.top] if re.search(r"[0-9]", said) else [0]
        return replace(dialect, top=steps[0])
    if name in OPTIONAL:
        return replace(dialect, refused=dialect.refused | {name})
    return None


def lacks_of(server: Server, dialect: Dialect) -> dict[Ability, str]:
    """What a server that gets messages cannot do, and what to do about it."""
    lacks: dict[Ability, str] = {
        "score": f"{server.base} gives no log-probabilities of a given text; serve the model with "
        "vLLM and set engine.tokenizer, or name a local model"
    }
    if not dialect.top:
        lacks["choose"] = (
            f"{server.base} gives no log-probabilities; set label.votes=sampled, or take a server that does"
        )
    if not dialect.is_vllm:
        lacks["prefill"] = (
            f"{server.base} cannot continue a begun answer; serve the model with vLLM, or leave the prefill "
            "out"
        )
    return lacks


def notes_of(server: Server, found: Found) -> tuple[str, ...]:
    """What a person should know of the server, a sentence each."""
    dialect = found.dialect
    notes = []
    if dialect.temperature != "any":
        only = "only a temperature of 1" if dialect.temperature == "one" else "no temperature but its own"
        notes.append(f"{server.base} takes {only}")
    if "seed" in dialect.refused:
        notes.append(f"{server.base} takes no seed: asked anew, it may answer otherwise")
    if "top_p" in dialect.refused:
        notes.append(f"{server.base} takes no top_p but its own")
    if not dialect.top:
        notes.append(f"{server.base} gives no log-probabilities; labels need label.votes=sampled")
    elif dialect.top < _STEPS[0]:
        notes.append(
            f"{server.base} lists {dialect.top} likeliest tokens, not {_STEPS[0]}: more options are bounded "
            "instead of measured"
        )
    if found.thinks:
        notes.append(
            f"{server.model} thinks before it answers; give the stages thinking_tokens, or turn it off with "
            "engine.chat_template_kwargs"
        )
    return tuple(notes)


def _patiently(server: Server, access: Access, payload: Payload, timeout_s: float) -> Reply:
    """The server's answer; waits while it asks for patience, within `timeout_s` in all."""
    end = time.monotonic() + timeout_s
    trouble = attempt = 0
    while True:
        left = max(0.1, end - time.monotonic())
        try:
            reply = ask(f"{server.base}/v1/chat/completions", access, left, payload)
        except OSError as problem:
            reason = getattr(problem, "reason", problem)
            raise EngineError(f"{server.base} does not answer a request of one token ({reason})") from problem
        status = reply.status
        if status == 200 and verdicts.in_an_answer(reply.body):
            status = verdicts.in_an_answer(reply.body)
            reply = replace(reply, status=status)
        if status == 429 and verdicts.out_of_quota(reply.body):
            raise verdicts.spent(server.base, message_of(reply.body))
        if status != 429 and status not in verdicts.RETRIED:
            return reply
        trouble += status != 429
        wait = pause(attempt, reply.after)
        attempt += 1
        if trouble > _MOST_TROUBLE:
            raise EngineError(
                f"{server.base} gave status {status} ({message_of(reply.body)}) to {trouble} requests of one "
                "token; look at the server's log"
            )
        if time.monotonic() + wait > end:
            raise verdicts.only_limited(server.base, message_of(reply.body), timeout_s)
        time.sleep(wait)


def _tiny(dialect: Dialect) -> Payload:
    payload: Payload = {
        "messages": [{"role": "user", "content": FIRST_WORDS}],
        dialect.budget: 1,
        **template_fields(dialect, thinks=False),
    }
    if dialect.temperature != "none":
        payload["temperature"] = 0.0 if dialect.temperature == "any" else 1.0
    if dialect.top:
        payload |= {"logprobs": True, "top_logprobs": dialect.top}
    values = {"top_p": 1.0, "seed": 1, "stop": ["\n\n\n"]}
    return payload | {name: value for name, value in values.items() if name not in dialect.refused}


def _answers(reply: Reply) -> bool:
    if reply.status == 200:
        return isinstance(reply.body, dict)
    return reply.status == 400 and bool(_ANSWERED_ALL_THE_SAME.search(message_of(reply.body)))


def _named(dialect: Dialect, body: Any, said: str) -> str | None:
    """The field of the tiny request that a refusal names, in `param` or first in its words."""
    fields = set(_tiny(dialect)) - {"messages", "model"}
    error = body.get("error") if isinstance(body, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    if isinstance(param, str) and param in fields:
        return param
    places = {match[0]: match.start() for match in reversed(list(re.finditer(r"[A-Za-z_]+", said)))}
    return min((name for name in fields if name in places), key=lambda name: places[name], default=None)


def _found(dialect: Dialect, reply: Reply) -> Found:
    """The dialect with what the answer itself shows: how many tokens it lists, and whether it thinks."""
    choices = reply.body.get("choices") if isinstance(reply.body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    thinks = isinstance(message, dict) and bool(message.get("reasoning") or message.get("reasoning_content"))
    return Found(replace(dialect, top=min(dialect.top, _listed(choice.get("logprobs")))), thinks)


def _listed(logprobs: Any) -> int:
    """How many likeliest tokens an answer lists, by the steps; its one place may hold an extra one."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    top = first.get("top_logprobs") if isinstance(first, dict) else None
    many = len(top) if isinstance(top, list) else 0
    return next(step for step in _STEPS if step <= many)


def _one_by_one(first: Dialect, say: Ask, asked: int) -> tuple[Found | Reply, int]:
    """Find the plainest request that is answered, then add each field by itself."""
    plain = replace(first, temperature="none", refused=frozenset(OPTIONAL), top=0)
    for dialect in (plain, replace(plain, budget="max_completion_tokens")):
        reply = say(_tiny(dialect))
        asked += 1
        if _answers(reply):
            break
    else:
        return reply, asked
    chosen, listing = dialect, reply
    singly: tuple[dict[str, Any], ...] = (
        {"temperature": "any"},
        *({"refused": dialect.refused - {name}} for name in ("top_p", "seed", "stop")),
        *({"top": step} for step in _STEPS[:3]),
    )
    for change in singly:
        if "top" in change and chosen.top:
            break
        tried = say(_tiny(replace(dialect, **change)))
        asked += 1
        if not _answers(tried):
            continue
        listing = tried if "top" in change else listing
        if "refused" in change:
            change = {"refused": chosen.refused & change["refused"]}
        chosen = replace(chosen, **change)
    return _found(chosen, listing), asked

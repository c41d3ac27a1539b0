"""Ask an HTTP service for rewards, in the shape of OpenRLHF's remote reward models.

A request is POSTed as {"query": [...], "prompts": [...], "responses": [...], "ids": [...], "messages": [...]}
and answered as {"rewards": [...]} or {"scores": [...]}, one number a response. A missing reward is an error,
never None.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from constitute.errors import DataError, EngineError, UsageError
from constitute.train.rewards.parts import Opening, RewardFunction
from constitute.types import Completion, Message, Prompt

if TYPE_CHECKING:
    import aiohttp

    from constitute.config import EngineConfig

ROWS_A_REQUEST = 16
_RETRIED = frozenset({408, 425, 429}) | frozenset(range(500, 600))
_BODY_CAP = 16 << 20
_BACKOFF_S = 0.5
_BACKOFF_CAP_S = 8.0

Answered = tuple[Prompt, Completion]


def host_of(url: str) -> str:
    """The host and port of a URL, which name the service in the metrics."""
    return urlsplit(url).netloc


def open_service(url: str, opening: Opening) -> tuple[RewardFunction, str]:
    """A function that asks the service at `url`, which is its identity too."""
    if not urlsplit(url).hostname:
        raise UsageError(f"reward {url!r} names no host; give a URL such as http://127.0.0.1:5000/get_reward")

    def rewards(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        return opening.runner.run(service_rewards(url, prompts, completions, opening.config.engine))

    return rewards, url


async def service_rewards(
    url: str, prompts: Sequence[Prompt], completions: Sequence[Completion], config: EngineConfig
) -> list[float]:
    """A finite reward for each completion, in their order.

    At most `config.in_flight` rows are with the service at once; a request may take `config.timeout_s`
    and is sent again up to `config.retries` times after a broken connection, a time-out, 429 or 5xx.
    Raises `EngineError` once these are used up or for another status, `DataError` for an answer that is
    not one finite number a response; both name the URL and the first row concerned.
    """
    import aiohttp

    rows = list(zip(prompts, completions, strict=True))
    batches = [rows[start : start + ROWS_A_REQUEST] for start in range(0, len(rows), ROWS_A_REQUEST)]
    gate = asyncio.Semaphore(max(1, config.in_flight // ROWS_A_REQUEST))
    timeout = aiohttp.ClientTimeout(total=config.timeout_s, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def ask(batch: Sequence[Answered]) -> list[float]:
            async with gate:
                return read_rewards(url, batch, await _post(session, url, batch, config))

        tasks = [asyncio.ensure_future(ask(batch)) for batch in batches]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
    return [reward for answer in answers for reward in answer]


def payload(batch: Sequence[Answered]) -> dict[str, Any]:
    """Body of a request. `messages` holds what chat templates want: each conversation with its response."""
    prompts = [conversation_text(prompt.messages) for prompt, _ in batch]
    responses = [completion.text for _, completion in batch]
    return {
        "query": [f"{before}\n\n{answer}" for before, answer in zip(prompts, responses, strict=True)],
        "prompts": prompts,
        "responses": responses,
        "ids": [prompt.id for prompt, _ in batch],
        "messages": [
            [
                message.model_dump()
                for message in (*prompt.messages, Message(role="assistant", content=completion.text))
            ]
            for prompt, completion in batch
        ],
    }


def conversation_text(messages: Sequence[Message]) -> str:
    """A single turn as it is; several with their roles, one a paragraph."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def read_rewards(url: str, batch: Sequence[Answered], body: dict[str, Any]) -> list[float]:
    """The rewards of an answer; raises `DataError` naming the first row without a finite number."""
    values = body.get("rewards", body.get("scores"))
    first = batch[0][0].id
    if not isinstance(values, list):
        raise DataError(
            f"the reward service {url} answered without a list of `rewards` for the response to prompt "
            f'{first!r}; it must answer {{"rewards": [one number a response]}}'
        )
    if len(values) != len(batch):
        raise DataError(
            f"the reward service {url} answered {len(values)} rewards for {len(batch)} responses, the first "
            f"to prompt {first!r}; it must return one number for each"
        )
    for (prompt, _), value in zip(batch, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(
                f"the reward service {url} answered {value!r} for the response to prompt {prompt.id!r}, not "
                "a finite number; mend it, then run the same command to go on from the last checkpoint"
            )
    return [float(value) for value in values]


async def _post(
    session: aiohttp.ClientSession, url: str, batch: Sequence[Answered], config: EngineConfig
) -> dict[str, Any]:
    """The answer as a JSON object, after as many tries as `config.retries` allows."""
    reason = ""
    for attempt in range(config.retries + 1):
        if attempt:
            longest = min(_BACKOFF_S * 2.0 ** (attempt - 1), _BACKOFF_CAP_S)
            await asyncio.sleep(random.uniform(longest / 2, longest))
        status, body, reason = await _attempt(session, url, batch, config)
        if status == 200 and isinstance(body, dict):
            return body
        if status and status != 200 and status not in _RETRIED:
            raise EngineError(
                f"the reward service {url} refuses the response to prompt {batch[0][0].id!r} with {reason}; "
                "give the URL that takes POST requests, and look at the service's log"
            )
    raise EngineError(
        f"the reward service {url} gave {reason} {config.retries + 1} times for the response to prompt "
        f"{batch[0][0].id!r}; start or mend it, then run the same command to go on from the last checkpoint"
    )


async def _attempt(
    session: aiohttp.ClientSession, url: str, batch: Sequence[Answered], config: EngineConfig
) -> tuple[int, Any, str]:
    """(status, body, what came instead of rewards) of one try; status 0 where nothing came."""
    import aiohttp

    try:
        async with session.post(url, json=payload(batch), allow_redirects=False) as answer:
            data = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > _BODY_CAP:
                    raise EngineError(f"the reward service {url} answered more than {_BODY_CAP >> 20} MiB")
            status = answer.status
    except aiohttp.ClientError as problem:
        return 0, None, f"a broken connection ({type(problem).__name__})"
    except TimeoutError:
        return 0, None, f"no answer within {config.timeout_s:g} s"
    said = " ".join(data[:200].decode("utf-8", "replace").split())
    if status != 200:
        return status, None, f"status {status} ({said})"
    try:
        return status, json.loads(data), f"an answer that is no JSON object ({said[:80]!r})"
    except ValueError:
        return status, None, f"an answer that is no JSON object ({said[:80]!r})"

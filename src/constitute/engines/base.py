"""What every engine promises, and the pure functions that engines share.

An engine answers two questions: a completion for a conversation, and the log-probabilities of given
labels. It renders the conversation itself, so that text in a message can never become a control token.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from constitute.errors import PromptTooLong
from constitute.types import Ability as Ability
from constitute.types import Choice, Completion, Record, Request, SamplingParams, Score

# Token ids of a label, or of the part of one that precedes a token.
Ids = tuple[int, ...]


class ModelIdentity(Record):
    """What answered: part of every cache key and every manifest."""

    engine: str
    name: str
    revision: str = ""
    fingerprint: str = ""
    tokenizer_hash: str = ""
    template_hash: str = ""
    # What a server does of its own accord, where it is known to differ from server to server.
    defaults: str = ""


@runtime_checkable
class Engine(Protocol):
    """A model that answers conversations.

    `generate` and `choose` may be awaited by thousands of coroutines at once; the engine batches.
    Both raise `PromptTooLong` or `RowError` for one bad row and `EngineError` once the model is gone.
    """

    @property
    def identity(self) -> ModelIdentity: ...

    @property
    def context_length(self) -> int | None:
        """Prompt plus completion, in tokens; None where the server does not say."""
        ...

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        """Token ids of the exact prompt; None where a server takes messages and renders them itself."""
        ...

    def rendered(self, request: Request) -> bytes:
        """The exact prompt as bytes for the cache key: its token ids where known, else the messages."""
        ...

    async def generate(self, request: Request) -> Completion: ...

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Log-probabilities of `labels` as the next text of the assistant's turn.

        A label of several tokens is scored exactly, as the sum over its tokens. With `spelled`, labels are
        options that a question offers: each counts however it is spelled (`engines.spelling`), and answers
        that begin with a longer one, as 10 does with 1, count for that one alone.
        """
        ...

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text`, token by token, as the assistant's answer; its end is not scored."""
        ...

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """What this engine cannot do, found out before the run: why, and what to do about it."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class RolloutEngine(Engine, Protocol):
    """An engine that PPO can sample from and push weights into; token ids in, token ids out."""

    @property
    def dtype(self) -> str:
        """What the weights are rounded to, `float32` or such; empty where a server does not say."""
        ...

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        """Sample one completion a prompt, blocking; `sampling.seed` makes it repeatable."""
        ...

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """log P of each completion token (nats, temperature 1) given what precedes it."""
        ...

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        """Replace the weights (Hugging Face checkpoint names) and drop every cached prefix.

        `fingerprint` names the new weights in cache keys; where None, it is taken from the weights.
        """
        ...


def check_length(prompt: int, limit: int | None) -> None:
    """Raise `PromptTooLong` unless `prompt` tokens leave room for one more within `limit`."""
    if limit is not None and prompt >= limit:
        raise PromptTooLong(
            f"the prompt is {prompt} tokens long and the context holds {limit}, one more included; "
            "shorten the prompt or raise engine.context_length"
        )


def as_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian 32-bit words, for cache keys."""
    return struct.pack(f"<{len(ids)}I", *ids)


def branches(labels: Sequence[Ids]) -> dict[Ids, tuple[int, ...]]:
    """Which next tokens to score after which label prefix: {prefix: tokens, in order, once each}.

    The empty prefix is the context itself; single-token labels need nothing else.
    """
    wanted: dict[Ids, dict[int, None]] = {}
    for label in labels:
        for position, token in enumerate(label):
            wanted.setdefault(label[:position], {})[token] = None
    return {prefix: tuple(tokens) for prefix, tokens in wanted.items()}


def label_logprob(label: Ids, scores: Mapping[Ids, Mapping[int, float]]) -> float:
    """log P(label): the sum over its tokens of log P(token | context, tokens before it)."""
    return sum(scores[label[:position]][token] for position, token in enumerate(label))

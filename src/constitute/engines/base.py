"""What every engine promises; `vllm`, `openai`, `transformers` and `fake` keep to it.

An engine answers two questions: a completion for a conversation, and the log-probabilities of given
labels. It renders the conversation itself, so that text in a message can never become a control token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from constitute.types import Choice, Completion, Record, Request, SamplingParams


class ModelIdentity(Record):
    """What answered: part of every cache key and every manifest."""

    engine: str
    name: str
    revision: str = ""
    fingerprint: str = ""
    tokenizer_hash: str = ""
    template_hash: str = ""


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

    def rendered(self, request: Request) -> bytes:
        """The exact prompt as bytes for the cache key: token ids where known, else the messages."""
        ...

    async def generate(self, request: Request) -> Completion: ...

    async def choose(self, request: Request, labels: Sequence[str]) -> Choice:
        """Log-probabilities of `labels` as the next text of the assistant's turn.

        A label of several tokens is scored exactly, as the sum over its tokens.
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class RolloutEngine(Engine, Protocol):
    """An engine that PPO can sample from and push weights into; token ids in, token ids out."""

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

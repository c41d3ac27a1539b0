"""What a run has spent on questions, and limits: no question is asked that could exceed one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from constitute.errors import LimitReached, UsageError
from constitute.store import Store
from constitute.types import Record

# The store's note of what the run has spent, over all its commands.
SPENT = "spent"
# Questions after which the note is written anew where nothing is limited.
_EVERY = 64
_ROUNDING = 1e-9


class Limits(Record):
    """What a run may spend over all its commands; None is no limit. Prices are of a million tokens."""

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    @property
    def given(self) -> bool:
        """Whether anything is limited."""
        return any(limit is not None for limit in (self.requests, self.tokens, self.cost))

    def check(self) -> None:
        """Raise `UsageError` for a limit of cost without a price."""
        if self.cost is not None and self.price_in is None and self.price_out is None:
            raise UsageError("--max-cost was given without a price; give --price-in and --price-out")


class Spent(Record):
    """Questions asked, and the tokens of their prompts and answers."""

    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0

    def plus(self, other: Spent, sign: int = 1) -> Spent:
        """The sum, or with `sign` -1 the difference, of each figure."""
        return Spent(
            requests=self.requests + sign * other.requests,
            prompt_tokens=self.prompt_tokens + sign * other.prompt_tokens,
            answer_tokens=self.answer_tokens + sign * other.answer_tokens,
        )

    def cost(self, limits: Limits) -> float:
        """What the tokens cost."""
        paid_in, paid_out = limits.price_in or 0.0, limits.price_out or 0.0
        return (self.prompt_tokens * paid_in + self.answer_tokens * paid_out) / 1e6


@dataclass
class Budget:
    """What was spent, and what the questions on their way may cost at most.

    A question that could exceed a limit waits until those on their way are answered: they may have cost less,
    and no answer that was paid for is lost when the run stops.
    """

    store: Store
    limits: Limits
    spent: Spent = field(default_factory=Spent)
    reserved: Spent = field(default_factory=Spent)
    on_their_way: int = 0
    unsaved: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, store: Store, limits: Limits) -> Budget:
        """The budget of a run, with what its earlier commands spent. Raises as `Limits.check`."""
        limits.check()
        return cls(store, limits, Spent.model_validate(store.meta(SPENT) or {}))

    async def take(self, most: Spent) -> None:
        """Reserve what a question may cost at most; `give` must follow.

        Raises `LimitReached` where that could exceed a limit and nothing is on its way any more.
        """
        while (name := self._exceeded(most)) is not None:
            if not self.on_their_way:
                raise LimitReached(self._sentence(name))
            await self._changed.wait()
        self.on_their_way += 1
        self.reserved = self.reserved.plus(most)

    def give(self, most: Spent, used: Spent) -> None:
        """Count what a question cost in place of what was reserved for it."""
        self.on_their_way -= 1
        self.reserved = self.reserved.plus(most, -1)
        self.spent = self.spent.plus(used)
        self.unsaved += 1
        if self.limits.given or self.unsaved >= _EVERY:
            self.save()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def save(self) -> None:
        """Commit what was spent."""
        if self.unsaved:
            self.store.put_meta(SPENT, self.spent.model_dump())
            self.unsaved = 0

    def _exceeded(self, most: Spent) -> str | None:
        """The option whose limit the question could exceed, None where none is."""
        limits = self.limits
        if not limits.given:
            return None
        after = self.spent.plus(self.reserved).plus(most)
        if limits.requests is not None and after.requests > limits.requests:
            return f"--max-requests {limits.requests}"
        tokens = after.prompt_tokens + after.answer_tokens
        if limits.tokens is not None and tokens > limits.tokens:
            return f"--max-tokens {limits.tokens}"
        if limits.cost is not None and after.cost(limits) > limits.cost + _ROUNDING:
            return f"--max-cost {limits.cost:g}"
        return None

    def _sentence(self, name: str) -> str:
        spent = self.spent
        tokens = f"{spent.prompt_tokens} prompt and {spent.answer_tokens} answer tokens"
        cost = "" if self.limits.cost is None else f", {spent.cost(self.limits):.4g} in all"
        return (
            f"stopped before the next question could exceed {name}: the run has asked {spent.requests} "
            f"questions ({tokens}{cost}); every answer is kept, and the same command with a higher limit "
            "goes on"
        )

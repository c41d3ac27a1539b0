"""A store in a folder of its own whose writes go to another process too, which keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from constitute.store.sqlite import Store

# A statement and its values.
Write = tuple[str, tuple[Any, ...]]


class Relay(Protocol):
    """The way to the process that keeps the run."""

    def write(self, query: str, values: tuple[Any, ...]) -> None:
        """Send a statement; those of one relay are executed in their order."""
        ...

    async def known(self, key: str) -> dict[str, Any] | None:
        """The answer that the run has under a key, or None."""
        ...

    async def acknowledged(self) -> None:
        """Return when everything sent so far is on disk there."""
        ...


class RelayStore(Store):
    """What a worker knows of the rows it works on. An answer is used when the run has acknowledged it."""

    relay: Relay | None = None

    def take(self, outcomes: Iterable[Sequence[Any]]) -> None:
        """Take over how rows ended in the run: whole rows of its table, not sent back."""
        for values in outcomes:
            super()._write("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)", tuple(values))

    async def known(self, key: str) -> dict[str, Any] | None:
        """The answer from here, once the run has it too; else from the run."""
        assert self.relay is not None
        if self.answer(key) is None:
            found = await self.relay.known(key)
            # Meanwhile another row may have asked the same.
            if self.answer(key) is None:
                return found
        await self.relay.acknowledged()
        return self.answer(key)

    async def acknowledged(self) -> None:
        """Return when everything written so far is on disk in the run."""
        assert self.relay is not None
        await self.relay.acknowledged()

    def _write(self, query: str, values: tuple[Any, ...]) -> None:
        super()._write(query, values)
        if self.relay is not None:
            self.relay.write(query, values)


def ended_rows(store: Store, stages: Iterable[str], prompts: Iterable[str]) -> list[tuple[Any, ...]]:
    """Whole rows of how what was made of the prompts has ended, for `RelayStore.take`."""
    # The ids of what is made of the prompt p begin with "p/", and "0" is the character after "/".
    query = "SELECT * FROM outcomes WHERE stage = ? AND row_id >= ? AND row_id < ?"
    prompts = list(prompts)
    return [
        row
        for stage in stages
        for name in prompts
        for row in store.read(query, stage, f"{name}/", f"{name}0")
    ]

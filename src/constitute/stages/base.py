"""What a stage is given to ask a model with: the driver fills in seeds, cache and journal behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from constitute.types import Choice, Completion, Principle, Request


class Sample(Protocol):
    """Ask the model; every answer is on disk before it is returned.

    The same question (same prompt, settings, index, principle, order) is asked once in a run's life.
    Raises `RowError` for a row that cannot be answered and `EngineError` when the model is gone.
    """

    async def generate(
        self, request: Request, *, step: str, index: int = 0, principle: Principle | None = None
    ) -> Completion:
        """One completion. `step` names what is asked (it seeds the sampling), `index` the repeat."""
        ...

    async def choose(
        self, request: Request, labels: Sequence[str], *, step: str, principle: Principle | None = None
    ) -> Choice:
        """Log-probabilities of exactly these labels as the assistant's next text."""
        ...

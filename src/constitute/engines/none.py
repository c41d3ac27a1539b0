"""The engine of stages that ask no model: whatever is asked of it is a bug."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from constitute.engines.base import ModelIdentity
from constitute.types import Ability, Choice, Completion, Request, Score


class NoEngine:
    """Answers nothing; every question raises `RuntimeError`."""

    identity = ModelIdentity(engine="none", name="none")
    context_length: int | None = None
    lacks: Mapping[Ability, str] = {}

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        return _refuse()

    def rendered(self, request: Request) -> bytes:
        return _refuse()

    async def generate(self, request: Request) -> Completion:
        return _refuse()

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        return _refuse()

    async def score(self, request: Request, text: str) -> Score:
        return _refuse()

    async def close(self) -> None:
        return None


def _refuse() -> NoReturn:
    raise RuntimeError("a stage with asks=False asked a model")

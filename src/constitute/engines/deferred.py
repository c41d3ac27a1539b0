"""A local model that is opened when it is first asked: what a store answers needs its tokenizer alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from constitute.engines.base import Ability, Engine, ModelIdentity, RolloutEngine, as_bytes
from constitute.engines.identity import local_identity
from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import EngineError
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig


class DeferredEngine:
    """Implements `Engine` for kinds that render themselves, lack nothing and are slow to load.

    Its identity and prompts are those of the engine that `opening` gives, so the keys of answers are too;
    `EngineError` where the files changed in between, as an answer would be kept under the wrong key.
    """

    def __init__(self, kind: str, model: str, config: EngineConfig, opening: Callable[[], Engine]) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from constitute.engines.tokenizer import load_tokenizer, turn_ends
        from constitute.packaged import model_path

        path = model_path(model)
        tokenizer = load_tokenizer(config.tokenizer or path, config.revision)
        ends = turn_ends(path, tokenizer, config.revision)
        self._renderer = Renderer(tokenizer, model, ends, RenderSettings.of(config))
        self._identity = local_identity(kind, model, path, config.revision, self._renderer)
        self._opening, self._opened = opening, None if self._identity.fingerprint else opening()
        if self._opened is not None:
            # The Hub had not sent the model yet, so nothing said which commit it is.
            self._identity = self._opened.identity

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def context_length(self) -> int | None:
        """None until it is open: the engine decides it."""
        return None if self._opened is None else self._opened.context_length

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """Nothing, as the engines that are deferred."""
        return {}

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        return self._renderer.ids(request)

    def rendered(self, request: Request) -> bytes:
        return as_bytes(self._renderer.ids(request))

    async def generate(self, request: Request) -> Completion:
        return await self._open().generate(request)

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        return await self._open().choose(request, labels, spelled=spelled)

    async def score(self, request: Request, text: str) -> Score:
        return await self._open().score(request, text)

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _open(self) -> Engine:
        if self._opened is None:
            self._opened = self._opening()
        if self._opened.identity != self._identity:
            raise EngineError(
                f"the model {self._identity.name} changed while it was being opened; run the command again"
            )
        return self._opened


class DeferredRollout(DeferredEngine):
    """Implements `RolloutEngine` for an engine that takes weights: those given before it is open wait."""

    def __init__(self, kind: str, model: str, config: EngineConfig, opening: Callable[[], Engine]) -> None:
        super().__init__(kind, model, config, opening)
        self._began = self._identity
        self._waiting: tuple[Iterable[tuple[str, Any]], str] | None = None

    @property
    def dtype(self) -> str:
        return self._rollout().dtype

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        return self._rollout().generate_ids(prompts, sampling, logprobs=logprobs)

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        return self._rollout().score_ids(prompts, completions)

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        if self._opened is None and fingerprint is not None:
            self._waiting = named_tensors, fingerprint
            self._identity = self._began.model_copy(update={"fingerprint": fingerprint})
            return
        engine = self._rollout()
        engine.update_weights(named_tensors, fingerprint=fingerprint)
        self._identity = engine.identity

    def opened(self) -> DeferredRollout:
        """The same, with its model loaded: from here on it says its context."""
        self._rollout()
        return self

    def sleep(self) -> bool:
        """As the engine's own, once it is open; until then nothing holds memory and nothing has to wake."""
        from constitute.engines.swap import rest

        return self._opened is not None and rest(self._opened)

    def _rollout(self) -> RolloutEngine:
        engine = self._open()
        assert isinstance(engine, RolloutEngine)
        return engine

    def _open(self) -> Engine:
        if self._opened is None:
            wanted, self._identity = self._identity, self._began
            try:
                engine = super()._open()
            finally:
                self._identity = wanted
            if self._waiting is not None and isinstance(engine, RolloutEngine):
                tensors, fingerprint = self._waiting
                engine.update_weights(tensors, fingerprint=fingerprint)
                self._waiting = None
        return super()._open()

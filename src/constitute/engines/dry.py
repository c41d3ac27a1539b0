"""An engine that asks nobody: it counts the tokens of what would be asked, and answers with a placeholder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from constitute.engines import resolve_kind
from constitute.engines.base import Ability, ModelIdentity, as_bytes
from constitute.engines.fake import FakeEngine
from constitute.engines.identity import model_fingerprint
from constitute.engines.locate import snapshot
from constitute.packaged import model_path
from constitute.types import Choice, Completion, Message, Request, Score
from constitute.urls import is_url

if TYPE_CHECKING:
    from constitute.config import EngineConfig
    from constitute.engines.render import Renderer

# Characters of English to a token, where no tokenizer is at hand.
_PER_TOKEN = 4
_ASKED = Request(messages=(Message(role="user", content="-"),))


@dataclass(frozen=True)
class Model:
    """What is known of a model without its weights: its tokenizer, where it is local, and its identity.

    `known` says whether the identity is the one that the engine itself would have.
    """

    identity: ModelIdentity
    renderer: Renderer | None
    known: bool


def model_of(model: str, config: EngineConfig, *, identify: bool) -> Model:
    """The model without its weights; `identify` reads a local folder's files for its fingerprint.

    Nothing is fetched and no server is asked. Raises `UsageError` for a folder that holds no model.
    """
    kind = resolve_kind(model, config.kind)
    if kind == "fake":
        return Model(FakeEngine(model, config).identity, None, True)
    path = model_path(config.tokenizer or model)
    local = not is_url(path) and bool(Path(path).is_dir() or snapshot(path, config.revision))
    renderer = _renderer(path, model, config) if local else None
    known = identify and renderer is not None and not is_url(model)
    weights = model_path(model)
    identity = ModelIdentity(
        engine=kind,
        name=model,
        revision=config.revision or "",
        fingerprint=(model_fingerprint(weights) or snapshot(weights, config.revision)) if known else "",
        tokenizer_hash=renderer.tokenizer_hash if renderer else "",
        template_hash=renderer.template_hash if renderer else "",
    )
    return Model(identity, renderer, known)


def _renderer(path: str, model: str, config: EngineConfig) -> Renderer:
    from constitute.engines.render import Renderer, RenderSettings
    from constitute.engines.tokenizer import load_tokenizer, turn_ends

    tokenizer = load_tokenizer(path, config.revision)
    return Renderer(tokenizer, model, turn_ends(path, tokenizer, config.revision), RenderSettings.of(config))


class DryEngine:
    """Implements `Engine`; `prompt_tokens` and `answer_tokens` add up what it was asked.

    A completion is taken to have `length` tokens, or as many as it may have, which nothing exceeds.
    """

    def __init__(self, model: Model, length: int | None = None) -> None:
        self._model = model
        self._length = length
        self.prompt_tokens = 0
        self.answer_tokens = 0

    @property
    def identity(self) -> ModelIdentity:
        return self._model.identity

    @property
    def context_length(self) -> int | None:
        """None: what does not fit is found when it is asked."""
        return None

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        return None if self._model.renderer is None else self._model.renderer.ids(request)

    def rendered(self, request: Request) -> bytes:
        """As the engine of this model renders it, where its tokenizer is at hand."""
        ids = self.prompt_ids(request)
        if ids is not None:
            return as_bytes(ids)
        asked = [[message.role, message.content] for message in request.messages]
        return json.dumps([asked, request.prefill], ensure_ascii=True, separators=(",", ":")).encode()

    async def generate(self, request: Request) -> Completion:
        """A text of its own for each request, of the length that is assumed."""
        self._count(request)
        most = request.sampling.max_tokens + request.thinking
        tokens = most if self._length is None else min(self._length, most)
        self.answer_tokens += tokens
        asked = self.rendered(request) + request.sampling.model_dump_json().encode()
        return Completion(text=hashlib.sha256(asked).hexdigest()[:6] + " the" * max(1, tokens - 4))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """The first label a little ahead, none of them improbable."""
        self._count(request)
        weights = [2.0, *(1.0 for _ in labels[1:])]
        logprobs = tuple(math.log(weight / sum(weights)) for weight in weights)
        return Choice(labels=tuple(labels), logprobs=logprobs)

    async def score(self, request: Request, text: str) -> Score:
        """-1 for the text; its tokens are a part of the prompt."""
        self._count(request)
        self.prompt_tokens += self._tokens(text)
        return Score(token_ids=(0,), logprobs=(-1.0,))

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """Nothing: what a server cannot do is found when it is asked."""
        return {}

    async def close(self) -> None:
        """Nothing is held."""

    def _count(self, request: Request) -> None:
        ids = self.prompt_ids(request)
        if ids is not None:
            self.prompt_tokens += len(ids)
            return
        texts = [*(message.content for message in request.messages), request.prefill]
        self.prompt_tokens += sum(self._tokens(text) for text in texts)

    def _tokens(self, text: str) -> int:
        return _counted(text, self._model.renderer)


def _counted(text: str, renderer: Renderer | None) -> int:
    if renderer is None:
        return math.ceil(len(text) / _PER_TOKEN)
    return len(renderer.label_ids(_ASKED, text))

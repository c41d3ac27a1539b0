"""Any OpenAI-compatible server. vLLM is given token ids and scores exact tokens; others get messages."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from constitute.engines.base import (
    Ability,
    ModelIdentity,
    as_bytes,
    check_length,
)
from constitute.engines.choosing import choose_by_ids
from constitute.engines.identity import model_fingerprint
from constitute.engines.openai import wire
from constitute.engines.openai.http import Transport
from constitute.engines.openai.probe import Server, probe
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import load_tokenizer
from constitute.errors import RowError, UsageError
from constitute.packaged import model_path
from constitute.types import Choice, Completion, Request, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig


class OpenAIEngine:
    """Implements `Engine`.

    Where the server is vLLM and its tokenizer is at hand (`engine.tokenizer`, or the folder it serves),
    prompts are rendered here and sent as token ids. Otherwise messages are sent, with text that looks
    like a control token broken up; `escaped` counts those places.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        key = os.environ.get(config.api_key_env, "")
        self._server = probe(model, key=key, key_env=config.api_key_env, served_name=config.served_name)
        self._transport = Transport(self._server, key, config)
        self._renderer = _renderer(self._server, config)
        self._limit = config.context_length or self._server.context
        self.escaped = 0
        root = self._server.root if Path(self._server.root).is_dir() else ""
        fingerprint = model_fingerprint(root) if root else ""
        self._identity = ModelIdentity(
            engine="openai",
            name=self._server.model,
            # Nothing else tells apart two servers that give different weights the same name.
            revision=config.revision or ("" if fingerprint else self._server.base),
            fingerprint=fingerprint,
            tokenizer_hash=self._renderer.tokenizer_hash if self._renderer else "",
            template_hash=self._renderer.template_hash if self._renderer else "",
        )

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def context_length(self) -> int | None:
        return self._limit

    @property
    def sends_ids(self) -> bool:
        """Whether prompts are rendered here and sent as token ids."""
        return self._renderer is not None

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        """Token ids of the prompt, None where the server gets messages."""
        return None if self._renderer is None else self._renderer.ids(request)

    def rendered(self, request: Request) -> bytes:
        """Prompt token ids as bytes, or the messages as JSON where the server renders them."""
        ids = self.prompt_ids(request)
        if ids is not None:
            return as_bytes(ids)
        return json.dumps(wire.request_json(request), separators=(",", ":")).encode()

    async def generate(self, request: Request) -> Completion:
        """One completion; raises `PromptTooLong`, `RowError` or `EngineError`."""
        if self._renderer is None:
            payload = wire.chat_payload(
                self._server.model, self._messages(request), request.sampling, is_vllm=self._server.is_vllm
            )
            return wire.read_chat(await self._transport.post("/v1/chat/completions", payload))
        prompt = self._renderer.ids(request)
        check_length(len(prompt), self._limit)
        payload = wire.completion_payload(self._server.model, prompt, request.sampling, self._limit)
        return wire.read_completion(await self._transport.post("/v1/completions", payload))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact where token ids are sent; else from the top log-probabilities, None for a missing label."""
        if self._renderer is None:
            payload = wire.chat_scoring_payload(self._server.model, self._messages(request))
            body = await self._transport.post("/v1/chat/completions", payload)
            return wire.read_top_logprobs(body, labels)
        return await choose_by_ids(
            self._renderer, request, labels, self._score, limit=self._limit, spelled=spelled
        )

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text` as the answer. Raises `UsageError` where the server gets messages."""
        if self._renderer is None:
            raise UsageError(self.lacks["score"])
        context = self._renderer.ids(request)
        ids = self._renderer.label_ids(request, text)
        check_length(len(context) + len(ids), self._limit)
        whole = context + ids
        body = await self._transport.post("/v1/completions", wire.given_payload(self._server.model, whole))
        return Score(token_ids=ids, logprobs=tuple(wire.read_given(body, whole, len(context))))

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """What a server that gets messages cannot do."""
        if self._renderer is not None:
            return {}
        return {
            "score": f"{self._server.base} gives no log-probabilities of a given text; serve the model with "
            "vLLM and set engine.tokenizer, or name a local model"
        }

    async def close(self) -> None:
        """Close the connections; the server goes on."""
        await self._transport.close()

    async def _score(self, prompt: Sequence[int], tokens: Sequence[int]) -> dict[int, float]:
        payload = wire.scoring_payload(self._server.model, prompt, tokens)
        return wire.read_scores(await self._transport.post("/v1/completions", payload), tokens)

    def _messages(self, request: Request) -> list[wire.Payload]:
        if request.prefill:
            raise RowError(
                "this server cannot continue a begun answer; serve the model with vLLM and set "
                "engine.tokenizer, or leave the prefill out"
            )
        messages, count = wire.escaped_messages(request.messages)
        self.escaped += count
        return messages


def _renderer(server: Server, config: EngineConfig) -> Renderer | None:
    """A renderer for a vLLM server whose tokenizer can be loaded here, else None.

    Raises `UsageError` where `engine.tokenizer` names one that cannot be loaded.
    """
    if not server.is_vllm:
        return None
    if config.tokenizer:
        return Renderer(load_tokenizer(model_path(config.tokenizer)), config.tokenizer)
    if Path(server.root).is_dir():
        return Renderer(load_tokenizer(server.root), server.model)
    return None

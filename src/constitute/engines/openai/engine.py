"""Any OpenAI-compatible server. vLLM is given token ids and scores exact tokens; others get messages."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from constitute.engines.base import (
    Ability,
    Ids,
    ModelIdentity,
    as_bytes,
    check_length,
)
from constitute.engines.choosing import choose_by_ids
from constitute.engines.identity import model_fingerprint
from constitute.engines.openai import abilities, wire_in, wire_out
from constitute.engines.openai.http import Transport
from constitute.engines.openai.messages import ByMessages
from constitute.engines.openai.probe import Server, check_same, probe
from constitute.engines.openai.reach import Access
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

_PATH = "/v1/completions"


class OpenAIEngine:
    """Implements `Engine`.

    Where the server is vLLM and its tokenizer is at hand (`engine.tokenizer`, or the folder it serves),
    prompts are rendered here and sent as token ids. Otherwise messages are sent, and one tiny request at the
    start finds out what the server takes; `notes` says what a person should know of it.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        access = Access(os.environ.get(config.api_key_env, ""), config.api_key_env)
        self._server = probe(model, access, config.served_name)
        servers = [self._server, *(probe(url, access, self._server.model) for url in config.endpoints)]
        for server in servers[1:]:
            check_same(self._server, server)
        self._transport = Transport(servers, access, config)
        self._renderer = _renderer(self._server, config)
        self._by_messages: ByMessages | None = None
        if self._renderer is None:
            extra = wire_out.extra_fields(config.chat_template_kwargs, is_vllm=self._server.is_vllm)
            found = abilities.find_out(servers, access, extra, config.timeout_s)
            self._by_messages = ByMessages(self._server, self._transport, found)
        self._limit = config.context_length or self._server.context
        # Whether the server knows `logprob_token_ids`; what it answers shows.
        self._scores_ids = True
        root = self._server.root if Path(self._server.root).is_dir() else ""
        fingerprint = model_fingerprint(root) if root else ""
        self._identity = ModelIdentity(
            engine="openai",
            name=self._server.model,
            # Nothing else tells apart two servers that give different weights the same name. The first
            # endpoint stands for all, so that it does not matter which one answered.
            revision=config.revision or ("" if fingerprint else self._server.base),
            fingerprint=fingerprint,
            tokenizer_hash=self._renderer.tokenizer_hash if self._renderer else "",
            template_hash=self._renderer.template_hash if self._renderer else "",
            defaults=self._by_messages.defaults if self._by_messages else "",
        )

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def context_length(self) -> int | None:
        return self._limit

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """What a server that gets messages cannot do."""
        return self._by_messages.lacks if self._by_messages else {}

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of the server before the run, a sentence each."""
        return self._by_messages.notes if self._by_messages else ()

    @property
    def escaped(self) -> int:
        """Places where text looked like a control token and was broken up."""
        return self._by_messages.escaped if self._by_messages else 0

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
        return json.dumps(wire_out.request_json(request), separators=(",", ":")).encode()

    async def generate(self, request: Request) -> Completion:
        """One completion; raises `PromptTooLong`, `RowError` or `EngineError`."""
        if self._by_messages is not None:
            return await self._by_messages.generate(request)
        assert self._renderer is not None
        prompt = self._renderer.ids(request)
        check_length(len(prompt), self._limit)
        sampling = self._renderer.sampling(request)
        payload = wire_out.completion_payload(self._server.model, prompt, sampling, self._limit)
        payload["stop_token_ids"] = sorted(self._renderer.eos_ids)
        answer = wire_in.read_completion(await self._transport.post(_PATH, payload))
        return self._renderer.completion(request, answer)

    def apart(self, prompt: Sequence[int], sampling: SamplingParams, sampled: Completion) -> Completion:
        """A rollout with reasoning that nobody asked for kept apart."""
        return sampled if self._renderer is None else self._renderer.apart(prompt, sampling, sampled)

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact where token ids are sent; else from the likeliest tokens, always over all spellings."""
        if self._by_messages is not None:
            return await self._by_messages.choose(request, labels)
        assert self._renderer is not None
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
        return Score(token_ids=ids, logprobs=tuple(await self._given(context, ids)))

    async def close(self) -> None:
        """Close the connections; the server goes on."""
        await self._transport.close()

    async def _score(self, prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        """log P of each of `tokens` as the next one.

        vLLM before `logprob_token_ids` scores each as the last token of a given text: as exact, and one
        request a token.
        """
        if self._scores_ids:
            payload = wire_out.scoring_payload(self._server.model, prompt, tokens)
            found = wire_in.read_scores(await self._transport.post(_PATH, payload), tokens)
            if found is not None:
                return found
            self._scores_ids = False
        given = await asyncio.gather(*(self._given(prompt, (token,)) for token in tokens))
        return {token: values[0] for token, values in zip(tokens, given, strict=True)}

    async def _given(self, context: Ids, ids: Ids) -> list[float]:
        whole = context + ids
        body = await self._transport.post(_PATH, wire_out.given_payload(self._server.model, whole))
        return wire_in.read_given(body, whole, len(context))


def _renderer(server: Server, config: EngineConfig) -> Renderer | None:
    """A renderer for a vLLM server whose tokenizer can be loaded here, else None.

    Raises `UsageError` where `engine.tokenizer` names one that cannot be loaded.
    """
    if not server.is_vllm:
        return None
    if config.tokenizer:
        return _opened(model_path(config.tokenizer), config.tokenizer, config)
    if Path(server.root).is_dir():
        return _opened(server.root, server.model, config)
    return None


def _opened(path: str, name: str, config: EngineConfig) -> Renderer:
    tokenizer = load_tokenizer(path)
    return Renderer(tokenizer, name, turn_ends(path, tokenizer), RenderSettings.of(config))

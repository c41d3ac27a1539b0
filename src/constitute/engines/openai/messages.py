"""Ask a server that gets messages and renders conversations itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constitute.engines.base import Ability
from constitute.engines.openai import abilities, wire_in, wire_out
from constitute.engines.openai.control import escaped_messages
from constitute.engines.openai.http import Transport
from constitute.engines.openai.options import choice_of
from constitute.engines.openai.probe import Server
from constitute.engines.render import apart_in_text
from constitute.errors import RowError, UsageError
from constitute.types import Choice, Completion, Request

_PATH = "/v1/chat/completions"


class ByMessages:
    """Text that looks like a control token is broken up; `escaped` counts those places."""

    def __init__(self, server: Server, transport: Transport, found: abilities.Found) -> None:
        self._server = server
        self._transport = transport
        self._dialect = found.dialect
        self.lacks: Mapping[Ability, str] = abilities.lacks_of(server, found.dialect)
        self.notes = abilities.notes_of(server, found)
        self.defaults = found.dialect.said()
        self.escaped = 0

    async def generate(self, request: Request) -> Completion:
        """One completion; raises `PromptTooLong`, `RowError`, `UsageError` or `EngineError`."""
        messages = self._messages(request)
        payload = wire_out.chat_payload(
            self._server.model, messages, request, self._dialect, where=self._server.base
        )
        body = await self._transport.post(_PATH, payload)
        return apart_in_text(request, wire_in.read_chat(body, payload[self._dialect.budget]))

    async def choose(self, request: Request, labels: Sequence[str]) -> Choice:
        """The labels over all their spellings, from the likeliest first tokens; see `options`."""
        if "choose" in self.lacks:
            raise UsageError(self.lacks["choose"])
        messages = self._messages(request)
        payload = wire_out.chat_scoring_payload(self._server.model, messages, request, self._dialect)
        positions = wire_in.read_positions(await self._transport.post(_PATH, payload))
        return choice_of(positions, labels)

    def _messages(self, request: Request) -> list[wire_out.Payload]:
        if request.form != "chat":
            raise RowError(
                f"{self._server.model} gets messages, which its own chat template writes; for plain text set "
                "engine.tokenizer, with a vLLM server, or evals.mode to chat"
            )
        if request.prefill and "prefill" in self.lacks:
            raise RowError(self.lacks["prefill"])
        messages, count = escaped_messages(request.messages)
        self.escaped += count
        return messages

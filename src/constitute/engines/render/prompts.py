"""The text and the token ids of a conversation up to where its answer begins."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from constitute.engines.render.encoding import Encoder, Shape, shapes_of, texts_of
from constitute.engines.render.settings import RenderSettings
from constitute.engines.render.template import ChatTemplate, Endless
from constitute.engines.render.traits import Switch, traits_of
from constitute.engines.render.turns import arranged
from constitute.errors import RowError, UsageError
from constitute.types import Message

log = logging.getLogger(__name__)

# An answer with a text, as the template sees it.
ANSWER: Shape = ("assistant", "", "", True)


class Prompts:
    """A tokenizer's chat template over conversations, each shape rendered once; `ends` end a turn.

    `text` takes the place of the tokenizer's own template. Raises `UsageError` for a template that does not
    end and for settings that contradict a request's.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        ends: frozenset[int],
        settings: RenderSettings,
        text: str | None = None,
    ) -> None:
        self.name = name
        self.template = ChatTemplate(tokenizer, name, settings.variables(), text)
        self.encoder = Encoder(tokenizer, self.template.text, ends)
        try:
            names = tokenizer.convert_ids_to_tokens(sorted(ends))
            self.traits = traits_of(self.template, [str(name) for name in names])
        except Endless as problem:
            raise UsageError(str(problem)) from problem
        _check_switch(self.traits.switch, settings, name)
        self.text = lru_cache(maxsize=4096)(self._build_text)
        self._begun = lru_cache(maxsize=4096)(self._build_begun)
        self.ids = lru_cache(maxsize=8192)(self._render)

    def _render(self, messages: tuple[Message, ...], prefill: str, thinking: bool = False) -> tuple[int, ...]:
        messages = arranged(messages, self.traits, self.name)
        shapes = shapes_of(messages)
        text = self._begun(shapes) if prefill else self.opened(shapes, thinking)
        return tuple(self.encoder.fill(text, [*texts_of(messages), prefill]))

    def opened(self, shapes: tuple[Shape, ...], thinking: bool = False) -> str:
        """What the template writes up to where the answer, or with `thinking` the reasoning, begins."""
        opened = self.text(shapes, True, thinking)
        return opened if thinking else self.traits.bridge.over(opened)

    def _build_text(self, shapes: tuple[Shape, ...], generation: bool, thinking: bool) -> str:
        """What the template writes around placeholders; `RowError` where it drops a message."""
        rendered = self._apply(shapes, generation=generation, thinking=thinking)
        for index, (role, _, _, filled) in enumerate(shapes):
            if filled and self.encoder.placeholder(index) not in rendered:
                raise RowError(
                    f"the chat template of {self.name!r} drops message {index + 1} ({role}); "
                    "leave that message out or use a model whose template accepts it"
                )
        return rendered

    def _build_begun(self, shapes: tuple[Shape, ...]) -> str:
        """The prompt up to and with the prefill's placeholder.

        As the template writes an assistant's turn (some put a space before it), unless that turn does not
        begin with the prompt; then directly after the prompt.
        """
        opened, mark = self.opened(shapes), self.encoder.placeholder(len(shapes))
        head, found, _ = self._apply((*shapes, ANSWER), generation=False).rpartition(mark)
        return head + mark if found and head.startswith(opened) else opened + mark

    def _apply(self, shapes: tuple[Shape, ...], *, generation: bool, thinking: bool = False) -> str:
        turns = self.encoder.conversation(shapes)
        return self.template.apply(turns, generation=generation, **self._variables(thinking))

    def _variables(self, thinking: bool) -> dict[str, Any]:
        switch = self.traits.switch
        return {} if switch is None else {switch.name: switch.on if thinking else switch.off}

    def check_plain_text(self, tokenizer: Any) -> None:
        """Compare with the tokenizer's own rendering once, and warn of a difference: it costs quality."""
        plain = (
            Message(role="user", content="Is 7 prime?"),
            Message(role="assistant", content="Yes, it is."),
            Message(role="user", content="Thank you, why?"),
        )
        try:
            turns = [turn.model_dump() for turn in plain]
            text = self.template.apply(turns, generation=True, **self._variables(False))
            own = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            ours = self.encoder.fill(self.text(shapes_of(plain), True, False), texts_of(plain))
        except RowError:
            # A template that refuses such turns may take those that are asked.
            return
        if ours != list(own):
            log.warning(
                "the tokenizer of %r does not tokenize its chat template piecewise; prompts differ from its "
                "own rendering by a few tokens",
                self.name,
            )


def _check_switch(switch: Switch | None, settings: RenderSettings, name: str) -> None:
    """Raise `UsageError` where the settings would think where no request asks for it."""
    if switch is None or settings.kwargs.get(switch.name, switch.off) == switch.off:
        return
    raise UsageError(
        f"engine.chat_template_kwargs sets {switch.name} to {settings.kwargs[switch.name]!r} for {name!r}; "
        "leave it out: thinking is on where generate.thinking_tokens or revise.thinking_tokens is above 0"
    )

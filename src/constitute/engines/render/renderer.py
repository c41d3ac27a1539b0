"""Turn a conversation into token ids with the model's own chat template, text staying text.

The template is rendered around placeholders, split at its control tokens, and what lies between them is
encoded by a copy of the tokenizer that knows no control token (`quarantine`). Ordinary text therefore
gets the very ids of `apply_chat_template`, and `<|im_end|>` inside a message gets those of its letters.

Engines and trainers render here alike. A training sequence is laid out as at inference: the prompt's
tokens up to where the answer begins (past an empty reasoning, into the final channel), then the answer's
tokens up to and including the end of turn.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from constitute.engines.identity import short_hash
from constitute.engines.render.completion import Reader, both_budgets
from constitute.engines.render.encoding import Encoder, Shape, shapes_of, texts_of
from constitute.engines.render.settings import RenderSettings
from constitute.engines.render.template import ChatTemplate, Endless
from constitute.engines.render.traits import Switch, traits_of
from constitute.engines.render.turns import (
    Trained,
    Turn,
    arranged,
    begins,
    joined,
    messages_of,
    trained_places,
)
from constitute.engines.tokenizer import check_template, check_trainable, eos_ids
from constitute.errors import DataError, RowError, UsageError
from constitute.templates import TemplateError
from constitute.types import Completion, Message, Request, SamplingParams

log = logging.getLogger(__name__)

# Token ids of a conversation, and its labels: -100 on every token that bears no loss.
TokenRow = tuple[list[int], list[int]]

_NO_LOSS = -100
_ANSWER: Shape = ("assistant", "", "", True)


@dataclass(frozen=True)
class _Answered:
    """The text before an answer and with it, the latter's ids, and the answer's own among them.

    `after` are the ids that the template writes behind the end of the turn: they are never sampled.
    """

    before: str
    whole: str
    whole_ids: list[int]
    own: list[int]
    after: list[int]


class Renderer:
    """Renders conversations for one tokenizer; pure but for its caches.

    `ends` are ids beside the tokenizer's own that end a turn (`eos_ids` finds them). `traits` say what was
    found out of its chat template. Raises `UsageError` for a tokenizer without chat template or
    `tokenizer.json`, and for settings that contradict a request's.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        ends: frozenset[int] = frozenset(),
        settings: RenderSettings | None = None,
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"the tokenizer of {name!r} has no tokenizer.json form; convert it with transformers' "
                "save_pretrained first"
            )
        check_template(tokenizer, name)
        self.tokenizer = tokenizer
        self.name = name
        self.settings = settings or RenderSettings()
        self.eos_ids = eos_ids(tokenizer) | ends
        self.tokenizer_hash = short_hash(backend.to_str().encode())
        self._template = ChatTemplate(tokenizer, name, self.settings.variables())
        self.template_hash = short_hash(self._template.text.encode())
        self._encoder = Encoder(tokenizer, self._template.text, self.eos_ids)
        self.control = self._encoder.control
        names = [str(name) for name in tokenizer.convert_ids_to_tokens(sorted(self.eos_ids))]
        try:
            self.traits = traits_of(self._template, names)
        except Endless as problem:
            raise UsageError(str(problem)) from problem
        _check_switch(self.traits.switch, self.settings, name)
        self._reader = Reader(tokenizer, self.traits.markers, self.control)
        self._text = lru_cache(maxsize=4096)(self._build_text)
        self._begun = lru_cache(maxsize=4096)(self._build_begun)
        self._ids = lru_cache(maxsize=8192)(self._render)
        self._check_plain_text()

    def ids(self, request: Request) -> tuple[int, ...]:
        """Token ids of the conversation up to where the answer begins, and its prefill.

        With `request.thinking`, up to where the reasoning begins. Raises `RowError` for a conversation the
        chat template refuses.
        """
        if not request.thinking:
            return self._ids(request.messages, request.prefill)
        if request.prefill:
            raise RowError("a model that thinks first cannot go on from a begun answer; set thinking to 0")
        return self._ids(request.messages, "", True)

    def label_ids(self, request: Request, label: str) -> tuple[int, ...]:
        """Token ids of `label` as they follow the rendered request.

        Raises `RowError` where the label's first token would swallow text before it.
        """
        if not label:
            raise ValueError("a label must not be empty")
        context = self._ids(request.messages, request.prefill)
        whole = self._ids(request.messages, request.prefill + label)
        if len(whole) <= len(context) or whole[: len(context)] != context:
            raise RowError(
                f"label {label!r} has no tokens of its own after {(request.prefill or 'the turn')[-20:]!r}; "
                "end the prefill at a token boundary or choose another label"
            )
        return whole[len(context) :]

    def prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids of a conversation up to where the assistant's answer begins, as `ids` gives them.

        Raises `DataError` for a conversation the chat template refuses.
        """
        with _in_training(turns) as messages:
            return list(self._ids(messages, ""))

    def answer_ids(self, turns: Sequence[Turn], answer: str) -> list[int]:
        """Token ids of `answer` to `turns`, which follow `prompt_ids`, up to and including the end of turn.

        Raises `DataError` for a conversation the chat template refuses.
        """
        with _in_training(turns) as messages:
            return self._answered(messages, answer).own

    def conversation_ids(self, turns: Sequence[Turn], loss: Trained = "last") -> TokenRow:
        """Token ids of a conversation and its labels: the trained turns' own tokens, -100 elsewhere.

        Raises as `training_rows` does, and `UsageError` where the conversation needs several sequences.
        """
        rows = self.training_rows(turns, loss)
        if len(rows) > 1:
            raise UsageError(
                f"the chat template of {self.name!r} rewrites earlier turns once later ones are there, "
                "so several trained turns need a sequence each; use training_rows"
            )
        return rows[0]

    def training_rows(self, turns: Sequence[Turn], loss: Trained = "last") -> list[TokenRow]:
        """What to train of a conversation: one sequence, or one for each trained turn.

        Several come of several trained turns under a template that rewrites earlier ones: each answer is
        then trained in the context it is sampled in. `loss` may name places of turns; otherwise a turn's
        `weight` (0 or 1) decides before it, and
        what follows the last trained turn is cut. Raises `DataError` for a conversation the chat template
        refuses, and where no turn bears loss.
        """
        places = trained_places(turns, loss)
        with _in_training(turns) as messages:
            if self.traits.alternates:
                messages, went = joined(messages)
                places = sorted({went[place] for place in places})
            if len(places) > 1 and (row := self._in_one(messages, places)) is not None:
                return [row]
            return [self._single(messages, place) for place in places]

    def decode(self, context: Sequence[int], completion: Sequence[int]) -> str:
        """Text of `completion`, with the space a tokenizer drops at the start of a text kept."""
        return self._reader.decode(context, completion)

    def sampling(self, request: Request) -> SamplingParams:
        """What to send to an engine: room for both budgets, and no stop string while the model thinks."""
        return both_budgets(request)

    def completion(self, request: Request, sampled: Completion) -> Completion:
        """What an engine sampled for `request`, its reasoning kept apart and its answer cut to measure.

        `sampled` holds token ids; without reasoning among them it is returned as it is.
        """
        return self._reader.read(self.ids(request), request.sampling, sampled, thinking=request.thinking)

    def apart(self, prompt: Sequence[int], sampling: SamplingParams, sampled: Completion) -> Completion:
        """What an engine sampled after the ids `prompt`, with reasoning that nobody asked for kept apart."""
        return self._reader.read(prompt, sampling, sampled, thinking=0)

    def _render(self, messages: tuple[Message, ...], prefill: str, thinking: bool = False) -> tuple[int, ...]:
        messages = arranged(messages, self.traits, self.name)
        shapes = shapes_of(messages)
        text = self._begun(shapes) if prefill else self._prompt(shapes, thinking)
        return tuple(self._encoder.fill(text, [*texts_of(messages), prefill]))

    def _prompt(self, shapes: tuple[Shape, ...], thinking: bool = False) -> str:
        opened = self._text(shapes, True, thinking)
        return opened if thinking else self.traits.bridge.over(opened)

    def _single(self, messages: tuple[Message, ...], place: int) -> TokenRow:
        """The answer at `place` in the context it is sampled in."""
        prompt = list(self._ids(messages[:place], ""))
        own = self._answered(messages[:place], messages[place].content).own
        return prompt + own, [_NO_LOSS] * len(prompt) + own

    def _in_one(self, messages: tuple[Message, ...], places: Sequence[int]) -> TokenRow | None:
        """All answers in one sequence; None where the template rewrites earlier turns."""
        ids: list[int] = []
        labels: list[int] = []
        text, text_ids, pending = "", list[int](), list[int]()
        texts = texts_of(arranged(messages[: places[-1] + 1], self.traits, self.name))
        for place, message in enumerate(messages[: places[-1] + 1]):
            if message.role != "assistant":
                continue
            step = self._answered(messages[:place], message.content)
            if not step.before.startswith(text):
                return None
            before_ids = list(self._ids(messages[:place], ""))
            asked = pending + self._tail(text_ids, before_ids, step.before[len(text) :], texts)
            ids += asked + step.own
            labels += [_NO_LOSS] * len(asked)
            labels += step.own if place in places else [_NO_LOSS] * len(step.own)
            text, text_ids, pending = step.whole, step.whole_ids, step.after
        return ids, labels

    def _answered(self, messages: tuple[Message, ...], answer: str) -> _Answered:
        turns = (*arranged(messages, self.traits, self.name), Message(role="assistant", content=answer))
        shapes, texts = shapes_of(turns), texts_of(turns)
        before, whole = self._prompt(shapes[:-1]), self._text(shapes, False, False)
        if not whole.startswith(before):
            whole = before + self._after(shapes, whole)
        whole_ids = self._encoder.fill(whole, texts)
        ids = self._tail(self._ids(messages, ""), whole_ids, whole[len(before) :], texts)
        # The template's own end of turn is the first eos after the text; what follows it is never sampled.
        stop = next((place for place, token in enumerate(ids) if token in self.eos_ids), None)
        if stop is None:
            check_trainable(self.tokenizer, self.name)
            return _Answered(before, whole, whole_ids, [*ids, int(self.tokenizer.eos_token_id)], [])
        return _Answered(before, whole, whole_ids, ids[: stop + 1], ids[stop + 1 :])

    def _after(self, shapes: tuple[Shape, ...], whole: str) -> str:
        """The answer and what the template writes behind it, where the prompt is not the text's beginning."""
        mark = self._encoder.placeholder(len(shapes) - 1)
        if not shapes[-1][3]:
            return self._text((*shapes[:-1], _ANSWER), False, False).rpartition(mark)[2]
        return mark + whole.rpartition(mark)[2]

    def _tail(self, head: Sequence[int], ids: list[int], added: str, texts: Sequence[str]) -> list[int]:
        """What `ids` add to `head`: their tail where they line up, else the ids of the text `added`."""
        if ids[: len(head)] == list(head):
            return ids[len(head) :]
        return self._encoder.fill(added, texts, opens=False)

    def _build_text(self, shapes: tuple[Shape, ...], generation: bool, thinking: bool) -> str:
        """What the template writes around placeholders; `RowError` where it drops a message."""
        rendered = self._apply(shapes, generation=generation, thinking=thinking)
        for index, (role, _, _, filled) in enumerate(shapes):
            if filled and self._encoder.placeholder(index) not in rendered:
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
        opened, mark = self._prompt(shapes), self._encoder.placeholder(len(shapes))
        head, found, _ = self._apply((*shapes, _ANSWER), generation=False).rpartition(mark)
        return head + mark if found and head.startswith(opened) else opened + mark

    def _apply(self, shapes: tuple[Shape, ...], *, generation: bool, thinking: bool = False) -> str:
        turns = self._encoder.conversation(shapes)
        return self._template.apply(turns, generation=generation, **self._variables(thinking))

    def _variables(self, thinking: bool) -> dict[str, Any]:
        switch = self.traits.switch
        return {} if switch is None else {switch.name: switch.on if thinking else switch.off}

    def _check_plain_text(self) -> None:
        """Compare with the tokenizer's own rendering once, and warn of a difference: it costs quality."""
        plain = (
            Message(role="user", content="Is 7 prime?"),
            Message(role="assistant", content="Yes, it is."),
            Message(role="user", content="Thank you, why?"),
        )
        try:
            turns = [turn.model_dump() for turn in plain]
            text = self._template.apply(turns, generation=True, **self._variables(False))
            own = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
            ours = self._encoder.fill(self._text(shapes_of(plain), True, False), texts_of(plain))
        except (TemplateError, RowError):
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


@contextmanager
def _in_training(turns: Sequence[Turn]) -> Iterator[tuple[Message, ...]]:
    """The turns as messages; what is wrong with the row ends the training, with how the row begins."""
    try:
        yield messages_of(turns)
    except RowError as problem:
        raise DataError(f"{problem} (in {begins(turns)})") from problem

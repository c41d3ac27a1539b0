"""Training sequences: an answer's own token ids after the prompt it is sampled from, and what bears loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constitute.engines.render.encoding import Shape, shapes_of, texts_of
from constitute.engines.render.prompts import ANSWER, Prompts
from constitute.engines.render.turns import arranged, joined
from constitute.engines.tokenizer import check_trainable
from constitute.types import Message

# Token ids of a conversation, and its labels: -100 on every token that bears no loss.
TokenRow = tuple[list[int], list[int]]

_NO_LOSS = -100


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


class Answers:
    """Lays out answers for training as they are sampled; `ends` are the ids that end a turn."""

    def __init__(self, prompts: Prompts, tokenizer: Any, ends: frozenset[int]) -> None:
        self._prompts = prompts
        self._encoder = prompts.encoder
        self._tokenizer = tokenizer
        self._ends = ends

    def own(self, messages: tuple[Message, ...], answer: str) -> list[int]:
        """The answer's own ids up to and including the end of turn."""
        return self._answered(messages, answer).own

    def rows(self, messages: tuple[Message, ...], places: Sequence[int]) -> list[TokenRow]:
        """The answers at `places` in one sequence, or a sequence each where earlier turns are rewritten."""
        if self._prompts.traits.alternates:
            messages, went = joined(messages)
            places = sorted({went[place] for place in places})
        if len(places) > 1 and (row := self._in_one(messages, places)) is not None:
            return [row]
        return [self._single(messages, place) for place in places]

    def _single(self, messages: tuple[Message, ...], place: int) -> TokenRow:
        """The answer at `place` in the context it is sampled in."""
        prompt = list(self._prompts.ids(messages[:place], ""))
        own = self._answered(messages[:place], messages[place].content).own
        return prompt + own, [_NO_LOSS] * len(prompt) + own

    def _in_one(self, messages: tuple[Message, ...], places: Sequence[int]) -> TokenRow | None:
        """All answers in one sequence; None where the template rewrites earlier turns."""
        ids: list[int] = []
        labels: list[int] = []
        text, text_ids, pending = "", list[int](), list[int]()
        texts = texts_of(arranged(messages[: places[-1] + 1], self._prompts.traits, self._prompts.name))
        for place, message in enumerate(messages[: places[-1] + 1]):
            if message.role != "assistant":
                continue
            step = self._answered(messages[:place], message.content)
            if not step.before.startswith(text):
                return None
            before_ids = list(self._prompts.ids(messages[:place], ""))
            asked = pending + self._tail(text_ids, before_ids, step.before[len(text) :], texts)
            ids += asked + step.own
            labels += [_NO_LOSS] * len(asked)
            labels += step.own if place in places else [_NO_LOSS] * len(step.own)
            text, text_ids, pending = step.whole, step.whole_ids, step.after
        return ids, labels

    def _answered(self, messages: tuple[Message, ...], answer: str) -> _Answered:
        turns = (
            *arranged(messages, self._prompts.traits, self._prompts.name),
            Message(role="assistant", content=answer),
        )
        shapes, texts = shapes_of(turns), texts_of(turns)
        before, whole = self._prompts.opened(shapes[:-1]), self._prompts.text(shapes, False, False)
        if not whole.startswith(before):
            whole = before + self._after(shapes, whole)
        whole_ids = self._encoder.fill(whole, texts)
        ids = self._tail(self._prompts.ids(messages, ""), whole_ids, whole[len(before) :], texts)
        # The template's own end of turn is the first eos after the text; what follows it is never sampled.
        stop = next((place for place, token in enumerate(ids) if token in self._ends), None)
        if stop is None:
            check_trainable(self._tokenizer, self._prompts.name)
            return _Answered(before, whole, whole_ids, [*ids, int(self._tokenizer.eos_token_id)], [])
        return _Answered(before, whole, whole_ids, ids[: stop + 1], ids[stop + 1 :])

    def _after(self, shapes: tuple[Shape, ...], whole: str) -> str:
        """The answer and what the template writes behind it, where the prompt is not the text's beginning."""
        mark = self._encoder.placeholder(len(shapes) - 1)
        if not shapes[-1][3]:
            return self._prompts.text((*shapes[:-1], ANSWER), False, False).rpartition(mark)[2]
        return mark + whole.rpartition(mark)[2]

    def _tail(self, head: Sequence[int], ids: list[int], added: str, texts: Sequence[str]) -> list[int]:
        """What `ids` add to `head`: their tail where they line up, else the ids of the text `added`."""
        if ids[: len(head)] == list(head):
            return ids[len(head) :]
        return self._encoder.fill(added, texts, opens=False)

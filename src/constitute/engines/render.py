"""Turn a conversation into token ids with the model's own chat template, text staying text.

The template is rendered around placeholders, split at its control tokens, and what lies between them is
encoded by a copy of the tokenizer that knows no control token (`quarantine`). Ordinary text therefore
gets the very ids of `apply_chat_template`, and `<|im_end|>` inside a message gets those of its letters.

Engines and trainers render here alike. A training sequence is laid out as at inference: the prompt's
tokens with the generation prompt, then the answer's tokens up to and including the end of turn.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from constitute.engines.identity import short_hash
from constitute.engines.quarantine import added_ids, control_ids, quarantined, unknown_id
from constitute.engines.tokenizer import check_template, check_trainable, eos_ids
from constitute.errors import DataError, RowError, UsageError
from constitute.templates import TemplateError
from constitute.types import Message, Request

log = logging.getLogger(__name__)

# A message as the template sees it: role, whitespace before its text, whitespace after, whether it has any.
Shape = tuple[str, str, str, bool]
# What a rendered conversation consists of: a control token's id, or text (with whether it opens the prompt).
Segment = int | tuple[str, bool]
# A turn of a conversation, as a record or as a row of a file holds it (`role` and `content`).
Turn = Message | Mapping[str, str]

_NO_LOSS = -100


@dataclass(frozen=True)
class _Answered:
    """The template's text before an answer and with it, the latter's ids, and the answer's own among them.

    `after` are the ids that the template writes behind the end of the turn: they are never sampled.
    """

    before: str
    whole: str
    whole_ids: list[int]
    own: list[int]
    after: list[int]


class Renderer:
    """Renders conversations for one tokenizer; pure but for its caches.

    `ends` are ids beside the tokenizer's own that end a turn (`eos_ids` finds them). Raises `UsageError` for
    a tokenizer without chat template or `tokenizer.json`.
    """

    def __init__(self, tokenizer: Any, name: str, ends: frozenset[int] = frozenset()) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"the tokenizer of {name!r} has no tokenizer.json form; convert it with transformers' "
                "save_pretrained first"
            )
        check_template(tokenizer, name)
        state = json.loads(backend.to_str())
        template = tokenizer.get_chat_template()
        self.tokenizer = tokenizer
        self.name = name
        self.eos_ids = eos_ids(tokenizer) | ends
        self.control = control_ids(state, template) | (self.eos_ids & added_ids(state))
        self.tokenizer_hash = short_hash(backend.to_str().encode())
        self.template_hash = short_hash(template.encode())
        self._backend = backend
        self._encoders = {
            first: Tokenizer.from_str(quarantined(state, self.control, first=first))
            for first in (True, False)
        }
        # A character the tokenizer lacks becomes its "unknown" id: no text can choose that on purpose.
        self._forbidden = self.control - {unknown_id(state)}
        self._nonce = secrets.token_hex(8)
        self._placeholders = re.compile(f"q{self._nonce}x([0-9]+)z")
        self._text = lru_cache(maxsize=4096)(self._build_text)
        self._begun = lru_cache(maxsize=4096)(self._build_begun)
        self._segments = lru_cache(maxsize=4096)(self._split)
        self._ids = lru_cache(maxsize=8192)(self._render)
        self._check_plain_text()

    def ids(self, request: Request) -> tuple[int, ...]:
        """Token ids of the conversation with the assistant's turn opened and its prefill begun.

        Raises `RowError` for a conversation the chat template refuses.
        """
        return self._ids(request.messages, request.prefill)

    def label_ids(self, request: Request, label: str) -> tuple[int, ...]:
        """Token ids of `label` as they follow the rendered request.

        Raises `RowError` where the label's first token would swallow text before it.
        """
        if not label:
            raise ValueError("a label must not be empty")
        context = self.ids(request)
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

        Raises `DataError` for a conversation the chat template refuses, `UsageError` for a template whose
        generation prompt does not begin the assistant's turn.
        """
        with _in_training(turns) as messages:
            return self._answered(messages, answer).own

    def conversation_ids(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        """Token ids of a conversation and its labels: each assistant turn's own tokens, -100 elsewhere.

        Raises as `answer_ids` does, and `UsageError` where the template rewrites earlier turns once later
        ones are there.
        """
        ids: list[int] = []
        labels: list[int] = []
        text, text_ids, pending = "", list[int](), list[int]()
        with _in_training(turns) as messages:
            for place, message in enumerate(messages):
                if message.role != "assistant":
                    continue
                step = self._answered(messages[:place], message.content)
                if not step.before.startswith(text):
                    raise UsageError(
                        f"the chat template of {self.name!r} rewrites earlier turns of a conversation once "
                        "later ones are there, so not every assistant turn can be trained on; split the "
                        "conversation into one row per answer (`prompt` and `completion`)"
                    )
                before_ids = list(self._ids(messages[:place], ""))
                new = step.before[len(text) :]
                asked = pending + self._tail(text_ids, before_ids, new, _texts(messages))
                ids += asked + step.own
                labels += [_NO_LOSS] * len(asked) + step.own
                text, text_ids, pending = step.whole, step.whole_ids, step.after
        return ids, labels

    def decode(self, context: Sequence[int], completion: Sequence[int]) -> str:
        """Text of `completion`, with the space a tokenizer drops at the start of a text kept."""
        before = self.tokenizer.decode(list(context[-8:]), skip_special_tokens=True)
        after = self.tokenizer.decode([*context[-8:], *completion], skip_special_tokens=True)
        if after.startswith(before):
            return str(after[len(before) :])
        return str(self.tokenizer.decode(list(completion), skip_special_tokens=True))

    def _render(self, messages: tuple[Message, ...], prefill: str) -> tuple[int, ...]:
        shapes = _shapes(messages)
        text = self._begun(shapes) if prefill else self._text(shapes, True)
        return tuple(self._fill(text, [*_texts(messages), prefill]))

    def _answered(self, messages: tuple[Message, ...], answer: str) -> _Answered:
        turns = (*messages, Message(role="assistant", content=answer))
        before, whole = self._text(_shapes(messages), True), self._text(_shapes(turns), False)
        if not whole.startswith(before):
            raise UsageError(
                f"the chat template of {self.name!r} renders a conversation differently once the answer is "
                "there, so the answer's tokens cannot be told apart; give the model's folder a "
                "chat_template.jinja whose generation prompt is the start of the assistant's turn"
            )
        texts = _texts(turns)
        whole_ids = self._fill(whole, texts)
        ids = self._tail(self._ids(messages, ""), whole_ids, whole[len(before) :], texts)
        # The template's own end of turn is the first eos after the text; what follows it is never sampled.
        stop = next((place for place, token in enumerate(ids) if token in self.eos_ids), None)
        if stop is None:
            check_trainable(self.tokenizer, self.name)
            return _Answered(before, whole, whole_ids, [*ids, int(self.tokenizer.eos_token_id)], [])
        return _Answered(before, whole, whole_ids, ids[: stop + 1], ids[stop + 1 :])

    def _tail(self, head: Sequence[int], ids: list[int], added: str, texts: Sequence[str]) -> list[int]:
        """What `ids` add to `head`: their tail where they line up, else the ids of the text `added`."""
        if ids[: len(head)] == list(head):
            return ids[len(head) :]
        return self._fill(added, texts, opens=False)

    def _fill(self, text: str, texts: Sequence[str], *, opens: bool = True) -> list[int]:
        """Ids of a template's `text` with `texts` in the place of its placeholders."""
        if any("\ud800" <= character <= "\udfff" for each in texts for character in each):
            raise RowError("a message holds lone surrogates and is not valid Unicode; repair the text")
        ids: list[int] = []
        for segment in self._segments(text, opens):
            if isinstance(segment, int):
                ids.append(segment)
                continue
            piece, first = segment
            filled = self._placeholders.sub(lambda found: texts[int(found[1])], piece)
            encoded = self._encoders[first].encode(filled, add_special_tokens=False).ids
            if not self._forbidden.isdisjoint(encoded):
                raise RowError("text of a message would become a control token of the model")
            ids.extend(encoded)
        return ids

    def _placeholder(self, index: int) -> str:
        return f"q{self._nonce}x{index}z"

    def _conversation(self, shapes: tuple[Shape, ...]) -> list[dict[str, str]]:
        return [
            {"role": role, "content": before + (self._placeholder(index) if filled else "") + after}
            for index, (role, before, after, filled) in enumerate(shapes)
        ]

    def _build_text(self, shapes: tuple[Shape, ...], generation: bool) -> str:
        """What the template writes around placeholders; `RowError` where it drops a message."""
        rendered = self._apply(self._conversation(shapes), generation=generation)
        for index, (role, _, _, filled) in enumerate(shapes):
            if filled and self._placeholder(index) not in rendered:
                raise RowError(
                    f"the chat template of {self.name!r} drops message {index + 1} ({role}); "
                    "leave that message out or use a model whose template accepts it"
                )
        return rendered

    def _build_begun(self, shapes: tuple[Shape, ...]) -> str:
        """The prompt up to and with the prefill's placeholder.

        As the template writes an assistant's turn (some put a space before it), unless that turn does not
        begin with the template's own generation prompt; then directly after the generation prompt.
        """
        opened, mark = self._text(shapes, True), self._placeholder(len(shapes))
        answered = [*self._conversation(shapes), {"role": "assistant", "content": mark}]
        head, found, _ = self._apply(answered, generation=False).rpartition(mark)
        return head + mark if found and head.startswith(opened) else opened + mark

    def _apply(self, conversation: list[dict[str, str]], *, generation: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=generation
            )
        except TemplateError as problem:
            roles = ", ".join(message["role"] for message in conversation)
            raise RowError(
                f"the chat template of {self.name!r} refuses a conversation of {roles}: {problem}"
            ) from problem
        return str(text)

    def _split(self, rendered: str, opens: bool) -> tuple[Segment, ...]:
        """The control tokens and the texts between them; `opens` where `rendered` begins a prompt."""
        encoding = self._backend.encode(rendered, add_special_tokens=False)
        segments: list[Segment] = []
        start = 0
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in self._forbidden:
                continue
            if begin > start:
                segments.append((rendered[start:begin], opens and start == 0))
            segments.append(token)
            start = end
        if start < len(rendered):
            segments.append((rendered[start:], opens and start == 0))
        return tuple(segments)

    def _check_plain_text(self) -> None:
        """Compare with the tokenizer's own rendering once, and warn of a difference: it costs quality."""
        words = ("Is 7 prime?", "Yes, it is.", "Thank you, why?")
        roles = ("user", "assistant", "user")
        plain = [{"role": role, "content": text} for role, text in zip(roles, words, strict=True)]
        try:
            own = self.tokenizer.apply_chat_template(
                plain, tokenize=True, add_generation_prompt=True, return_dict=False
            )
            ours = self._render(_messages(plain), "")
        except (TemplateError, RowError):
            # A template that refuses such turns may take those that are asked.
            return
        if list(ours) != list(own):
            log.warning(
                "the tokenizer of %r does not tokenize its chat template piecewise; prompts differ from its "
                "own rendering by a few tokens",
                self.name,
            )


@contextmanager
def _in_training(turns: Sequence[Turn]) -> Iterator[tuple[Message, ...]]:
    """The turns as messages; what is wrong with the row ends the training, with how the row begins."""
    messages = _messages(turns)
    try:
        yield messages
    except RowError as problem:
        begin = messages[0].content[:60]
        raise DataError(f"{problem} (in the conversation that begins {begin!r})") from problem


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(turn if isinstance(turn, Message) else Message.model_validate(turn) for turn in turns)


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message.content.strip() for message in messages]


def _shapes(messages: Sequence[Message]) -> tuple[Shape, ...]:
    return tuple(_shape(message) for message in messages)


def _shape(message: Message) -> Shape:
    text = message.content.strip()
    if not text:
        return (message.role, message.content, "", False)
    start = message.content.index(text)
    return (message.role, message.content[:start], message.content[start + len(text) :], True)

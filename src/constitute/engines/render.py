"""Turn a conversation into token ids with the model's own chat template, text staying text.

The template is rendered around placeholders, split at its control tokens, and what lies between them is
encoded by a copy of the tokenizer that knows no control token (`quarantine`). Ordinary text therefore
gets the very ids of `apply_chat_template`, and `<|im_end|>` inside a message gets those of its letters.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from constitute.engines.identity import short_hash
from constitute.engines.locate import require
from constitute.engines.quarantine import control_ids, quarantined, unknown_id
from constitute.errors import PromptTooLong, RowError, UsageError
from constitute.templates import TemplateError
from constitute.types import Message, Request

log = logging.getLogger(__name__)

# A message as the template sees it: role, whitespace before its text, whitespace after, whether it has any.
Shape = tuple[str, str, str, bool]
# What a rendered conversation consists of: a control token's id, or text (with whether it opens the prompt).
Segment = int | tuple[str, bool]


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """The tokenizer of a local folder or Hub name; code from elsewhere is never run.

    Raises `UsageError` where there is none.
    """
    require(path)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise UsageError(
            f"cannot load the tokenizer of model {path!r} ({reason}); give a folder with tokenizer.json, "
            "a Hub name that can be reached, or a packaged model"
        ) from problem


class Renderer:
    """Renders requests for one tokenizer; pure but for its caches.

    Raises `UsageError` when made for a tokenizer without chat template or without a `tokenizer.json`.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(
                f"the tokenizer of {name!r} has no tokenizer.json form; convert it with transformers' "
                "save_pretrained first"
            )
        if not tokenizer.chat_template:
            raise UsageError(
                f"model {name!r} has no chat template; add a chat_template.jinja file to its folder or use "
                "an instruction-tuned model"
            )
        state = json.loads(backend.to_str())
        template = tokenizer.get_chat_template()
        self.tokenizer = tokenizer
        self.name = name
        self.control = control_ids(state, template)
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
        self._skeleton = lru_cache(maxsize=4096)(self._build_skeleton)
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

    def decode(self, context: Sequence[int], completion: Sequence[int]) -> str:
        """Text of `completion`, with the space a tokenizer drops at the start of a text kept."""
        before = self.tokenizer.decode(list(context[-8:]), skip_special_tokens=True)
        after = self.tokenizer.decode([*context[-8:], *completion], skip_special_tokens=True)
        if after.startswith(before):
            return str(after[len(before) :])
        return str(self.tokenizer.decode(list(completion), skip_special_tokens=True))

    def _render(self, messages: tuple[Message, ...], prefill: str) -> tuple[int, ...]:
        shapes = tuple(_shape(message) for message in messages)
        texts = [message.content.strip() for message in messages] + [prefill]
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise RowError("a message holds lone surrogates and is not valid Unicode; repair the text")
        ids: list[int] = []
        for segment in self._skeleton(shapes, bool(prefill)):
            if isinstance(segment, int):
                ids.append(segment)
                continue
            text, first = segment
            filled = self._placeholders.sub(lambda found: texts[int(found[1])], text)
            encoded = self._encoders[first].encode(filled, add_special_tokens=False).ids
            if not self._forbidden.isdisjoint(encoded):
                raise RowError("text of a message would become a control token of the model")
            ids.extend(encoded)
        return tuple(ids)

    def _placeholder(self, index: int) -> str:
        return f"q{self._nonce}x{index}z"

    def _build_skeleton(self, shapes: tuple[Shape, ...], prefill: bool) -> tuple[Segment, ...]:
        conversation = [
            {"role": role, "content": before + (self._placeholder(index) if filled else "") + after}
            for index, (role, before, after, filled) in enumerate(shapes)
        ]
        rendered = self._apply(conversation, generation=True)
        if prefill:
            mark = self._placeholder(len(shapes))
            rendered = self._open_turn(conversation, rendered, mark)
        for index, (role, _, _, filled) in enumerate(shapes):
            if filled and self._placeholder(index) not in rendered:
                raise RowError(
                    f"the chat template of {self.name!r} drops message {index + 1} ({role}); "
                    "leave that message out or use a model whose template accepts it"
                )
        return tuple(self._split(rendered))

    def _open_turn(self, conversation: list[dict[str, str]], opened: str, mark: str) -> str:
        """The prompt up to and with the prefill's placeholder.

        As the template writes an assistant's turn (some put a space before it), unless that turn does not
        begin with the template's own generation prompt; then directly after the generation prompt.
        """
        turn = self._apply([*conversation, {"role": "assistant", "content": mark}], generation=False)
        head, found, _ = turn.rpartition(mark)
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

    def _split(self, rendered: str) -> list[Segment]:
        encoding = self._backend.encode(rendered, add_special_tokens=False)
        segments: list[Segment] = []
        start = 0
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in self._forbidden:
                continue
            if begin > start:
                segments.append((rendered[start:begin], start == 0))
            segments.append(token)
            start = end
        if start < len(rendered):
            segments.append((rendered[start:], start == 0))
        return segments

    def _check_plain_text(self) -> None:
        """Compare with the tokenizer's own rendering once; a difference is told, for it costs quality."""
        words = ("Is 7 prime?", "Yes, it is.", "Thank you, why?")
        roles = ("user", "assistant", "user")
        plain = [{"role": role, "content": text} for role, text in zip(roles, words, strict=True)]
        try:
            own = self.tokenizer.apply_chat_template(
                plain, tokenize=True, add_generation_prompt=True, return_dict=False
            )
        except TemplateError:
            return
        messages = tuple(Message.model_validate(message) for message in plain)
        if list(self._render(messages, "")) != list(own):
            log.warning(
                "the tokenizer of %r does not tokenize its chat template piecewise; prompts differ from its "
                "own rendering by a few tokens",
                self.name,
            )


def _shape(message: Message) -> Shape:
    text = message.content.strip()
    if not text:
        return (message.role, message.content, "", False)
    start = message.content.index(text)
    return (message.role, message.content[:start], message.content[start + len(text) :], True)


def check_length(prompt: int, limit: int | None, completion: int = 1) -> None:
    """Raise `PromptTooLong` unless `prompt` tokens leave room for `completion` more within `limit`."""
    if limit is not None and prompt + completion > limit:
        room = "one more" if completion == 1 else f"{completion} more"
        raise PromptTooLong(
            f"the prompt is {prompt} tokens long and the context holds {limit}, {room} included; "
            "shorten the prompt or raise engine.context_length"
        )


def as_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian 32-bit words, for cache keys."""
    return b"".join(token.to_bytes(4, "little") for token in ids)

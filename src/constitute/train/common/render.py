"""Turn conversations into token ids, so that text in a message never becomes a control token.

A training sequence is laid out as at inference: the prompt's tokens with the generation prompt, then
the answer's tokens up to and including the end-of-turn token, and nothing after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from constitute.errors import UsageError

# A private-use character around an index stands for a control string found in a message's text.
_MARK = "\ue000"
_MARKED = re.compile(f"{_MARK}(\\d+){_MARK}")


def eos_ids(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """All ids that end a turn: the tokenizer's and those of any model or generation configuration."""
    found = {tokenizer.eos_token_id}
    for config in configs:
        value = getattr(config, "eos_token_id", None)
        found.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(int(value) for value in found if value is not None)


def check_template(tokenizer: Any, name: str) -> None:
    """Raise `UsageError` where conversations cannot be rendered: no chat template, or no eos token."""
    if not tokenizer.chat_template:
        raise UsageError(
            f"the tokenizer of {name} has no chat template; set `tokenizer.chat_template` and save it"
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {name} has no eos token; set `tokenizer.eos_token` and save it")


def check_pad(tokenizer: Any, name: str) -> None:
    """Raise `UsageError` unless there is a pad token that is no eos token.

    A sequence classifier pools the last token that is not padding: with pad = eos it reads one early.
    """
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        lack = "no pad token" if tokenizer.pad_token_id is None else "a pad token that is its eos token"
        raise UsageError(
            f"the tokenizer of {name} has {lack}; set `tokenizer.pad_token` to another token "
            "(an unused or reserved one) and save the tokenizer into the model's folder"
        )


def _control_strings(tokenizer: Any) -> list[str]:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    # Longest first, so that no control string hides inside another; the mark itself is data too.
    return [*sorted(special, key=lambda text: (-len(text), text)), _MARK]


def _marked(text: str, controls: list[str]) -> str:
    pattern = "|".join(re.escape(control) for control in controls)
    return re.sub(pattern, lambda hit: f"{_MARK}{controls.index(hit[0])}{_MARK}", text)


def _template(tokenizer: Any, turns: Sequence[dict[str, str]], *, generation_prompt: bool) -> str:
    controls = _control_strings(tokenizer)
    safe = [{"role": turn["role"], "content": _marked(turn["content"], controls)} for turn in turns]
    return str(tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=generation_prompt))


def _encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of rendered text; marked control strings are encoded as the plain text they are."""
    controls = _control_strings(tokenizer)
    ids: list[int] = []
    for place, piece in enumerate(_MARKED.split(text)):
        if place % 2:
            plain = tokenizer(controls[int(piece)], add_special_tokens=False, split_special_tokens=True)
            ids += plain["input_ids"]
        elif piece:
            ids += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return ids


def prompt_ids(tokenizer: Any, turns: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of a conversation up to where the assistant's answer begins."""
    return _encode(tokenizer, _template(tokenizer, turns, generation_prompt=True))


def answer_ids(
    tokenizer: Any, turns: Sequence[dict[str, str]], answer: str, ends: frozenset[int]
) -> list[int]:
    """Token ids of `answer` to `turns`, up to and including the end-of-turn token."""
    return _answered(tokenizer, turns, answer, ends).own


@dataclass(frozen=True)
class _Answered:
    """The texts before and with an answer, the answer's own ids, and what the template adds after them."""

    before: str
    whole: str
    own: list[int]
    after: list[int]


def _answered(
    tokenizer: Any, turns: Sequence[dict[str, str]], answer: str, ends: frozenset[int]
) -> _Answered:
    before = _template(tokenizer, turns, generation_prompt=True)
    whole = _template(tokenizer, [*turns, {"role": "assistant", "content": answer}], generation_prompt=False)
    if not whole.startswith(before):
        raise UsageError(
            "the chat template renders a conversation differently once the answer is there, so its tokens "
            "cannot be told apart; give a template whose generation prompt is the start of the answer's turn"
        )
    ids = _added(tokenizer, before, whole)
    # The template's own end of turn is the first eos after the text; what follows it is never sampled.
    stop = next((place for place, token in enumerate(ids) if token in ends), None)
    if stop is None:
        return _Answered(before, whole, [*ids, tokenizer.eos_token_id], [])
    return _Answered(before, whole, ids[: stop + 1], ids[stop + 1 :])


def _added(tokenizer: Any, before: str, whole: str) -> list[int]:
    """Ids of what `whole` adds to `before`: exactly the tail where the tokens line up."""
    head, ids = _encode(tokenizer, before), _encode(tokenizer, whole)
    if ids[: len(head)] == head:
        return ids[len(head) :]
    return _encode(tokenizer, whole[len(before) :])


def conversation_ids(
    tokenizer: Any, turns: Sequence[dict[str, str]], ends: frozenset[int]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and its labels: each assistant turn's own tokens, -100 elsewhere.

    Raises `UsageError` where the template rewrites earlier turns once later ones are there.
    """
    ids: list[int] = []
    labels: list[int] = []
    text = ""
    pending: list[int] = []
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        step = _answered(tokenizer, turns[:place], turn["content"], ends)
        if not step.before.startswith(text):
            raise UsageError(
                "the chat template rewrites earlier turns of a conversation, so not every assistant turn can "
                "be trained on; split it into one row per answer (`prompt` and `completion`)"
            )
        asked = pending + _added(tokenizer, text, step.before)
        ids += asked + step.own
        labels += [-100] * len(asked) + step.own
        text, pending = step.whole, step.after
    return ids, labels

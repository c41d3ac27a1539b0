"""Read what a model sampled: its reasoning, and its answer cut at the answer's own limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from constitute.engines.render.reasoning import KNOWN, Markers, opened_by, parts_of, unwrapped
from constitute.types import Completion, Request, SamplingParams

# Tokens before a completion that are decoded with it: enough for any character and any joined word.
_CONTEXT = 8
# Tokens at a prompt's end that may hold the opening mark of a reasoning.
_OPENING = 24
# Control tokens in a mark that holds words as well.
_TAGS = re.compile(r"<\|[^|]+\|>")


def both_budgets(request: Request) -> SamplingParams:
    """The request's sampling with room for its thinking, and without stop strings that would end that."""
    sampling = request.sampling
    if not request.thinking:
        return sampling
    return sampling.model_copy(update={"max_tokens": sampling.max_tokens + request.thinking, "stop": ()})


class Reader:
    """Reads completions of one tokenizer; no text gives the ids `control`, and `ends` end a turn."""

    def __init__(
        self, tokenizer: Any, markers: Sequence[Markers], control: frozenset[int], ends: frozenset[int]
    ) -> None:
        self._tokenizer = tokenizer
        self._markers = markers
        self._ends = ends
        names = set(tokenizer.convert_ids_to_tokens(sorted(control)))
        self._surely = frozenset(
            marks.end for marks in markers if set(_TAGS.findall(marks.end) or [marks.end]) <= names
        )

    def decode(self, context: Sequence[int], completion: Sequence[int]) -> str:
        """Text of `completion`, with the space a tokenizer drops at the start of a text kept."""
        begin = list(context[-_CONTEXT:])
        before = self._tokenizer.decode(begin, skip_special_tokens=True)
        after = self._tokenizer.decode([*begin, *completion], skip_special_tokens=True)
        if after.startswith(before):
            return str(after[len(before) :])
        return str(self._tokenizer.decode(list(completion), skip_special_tokens=True))

    def read(
        self, prompt: Sequence[int], sampling: SamplingParams, sampled: Completion, *, thinking: int
    ) -> Completion:
        """`sampled` with its reasoning apart, and the answer cut at `max_tokens` and stop strings.

        An answer without reasoning, and not asked to think, is returned as it is.
        """
        ids = sampled.token_ids
        if not ids:
            return _in_text(sampled, sampling)
        opened = opened_by(self._raw(prompt[-_OPENING:]), self._markers) if thinking else None
        text = self._raw(ids)
        found = parts_of(text, self._markers, opened, self._surely)
        if found is None and not thinking:
            return sampled
        reasoning, start = ("", 0) if found is None else (found.reasoning, found.start)
        if found is not None and not found.closed:
            return sampled.model_copy(update={"text": "", "reasoning": reasoning})
        # The line breaks after a reasoning belong to the template and take nothing from the answer's budget.
        start += len(text[start:]) - len(text[start:].lstrip())
        begin = self._tokens_until(ids, start)
        end = begin + sampling.max_tokens
        spilt = self._raw(ids[:begin])[start:]
        spoken = ids[begin : end if ids[-1] not in self._ends else min(end, len(ids) - 1)]
        answer = unwrapped((spilt + self.decode((*prompt, *ids[:begin]), spoken)).lstrip())
        cut = len(ids) > end
        places = [answer.index(word) for word in sampling.stop if word in answer]
        if places:
            answer, cut = answer[: min(places)], False
        elif not cut and sampled.finish_reason == "length":
            cut = True
        kept = len(ids) if not cut else end
        return sampled.model_copy(
            update={
                "text": answer,
                "reasoning": reasoning,
                "token_ids": ids[:kept],
                "logprobs": sampled.logprobs[:kept],
                "finish_reason": "length" if cut else "stop",
            }
        )

    def _raw(self, ids: Sequence[int]) -> str:
        """The text with control tokens written out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _tokens_until(self, ids: Sequence[int], length: int) -> int:
        """How many tokens it takes to write the first `length` characters."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if len(self._raw(ids[:middle])) >= length:
                high = middle
            else:
                low = middle + 1
        return low


def apart_in_text(request: Request, answered: Completion) -> Completion:
    """A completion that a server decoded itself, reasoning written out in its text kept apart."""
    return _in_text(answered, request.sampling)


def _in_text(answered: Completion, sampling: SamplingParams) -> Completion:
    found = None if answered.reasoning else parts_of(answered.text, KNOWN, None, frozenset())
    text, update = answered.text, dict[str, object]()
    if found is not None:
        text = unwrapped(text[found.start :].lstrip())
        update = {"reasoning": found.reasoning, "text": text}
    places = [text.index(word) for word in sampling.stop if word in text]
    if places:
        update |= {"text": text[: min(places)], "finish_reason": "stop"}
    return answered.model_copy(update=update) if update else answered

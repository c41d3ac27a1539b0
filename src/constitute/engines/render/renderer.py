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
from functools import partial
from typing import Any

from constitute.engines.identity import short_hash
from constitute.engines.render.completion import Reader, both_budgets
from constitute.engines.render.plain import form_template
from constitute.engines.render.prompts import Prompts
from constitute.engines.render.settings import RenderSettings
from constitute.engines.render.training import Answers, TokenRow
from constitute.engines.render.turns import Trained, Turn, begins, messages_of, trained_places
from constitute.engines.tokenizer import check_template, eos_ids
from constitute.errors import DataError, RowError, UsageError
from constitute.types import Completion, Form, Message, Request, SamplingParams

log = logging.getLogger(__name__)


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
        self.tokenizer = tokenizer
        self.name = name
        self.settings = settings or RenderSettings()
        if self.settings.plain and not tokenizer.chat_template:
            log.warning("%r has no chat template; it is asked in plain text: Human: …, Assistant:", name)
            own: Form = "plain"
        else:
            check_template(tokenizer, name)
            own = "chat"
        self.eos_ids = eos_ids(tokenizer) | ends
        self.tokenizer_hash = short_hash(backend.to_str().encode())
        build = partial(Prompts, tokenizer, name, self.eos_ids, self.settings)
        prompts = build(form_template(own, tokenizer))
        self._build, self._forms = build, {"chat": prompts, own: prompts}
        self.template_hash = short_hash(prompts.template.text.encode())
        self.control = prompts.encoder.control
        self.traits = prompts.traits
        self._ids = prompts.ids
        self._answers = Answers(prompts, tokenizer, self.eos_ids)
        self._reader = Reader(tokenizer, self.traits.markers, self.control, self.eos_ids)
        prompts.check_plain_text(tokenizer)

    def _prompts(self, form: Form) -> Prompts:
        if form not in self._forms:
            self._forms[form] = self._build(form_template(form, self.tokenizer))
        return self._forms[form]

    def ids(self, request: Request) -> tuple[int, ...]:
        """Token ids of the conversation up to where the answer begins, and its prefill.

        With `request.thinking`, up to where the reasoning begins. Raises `RowError` for a conversation the
        chat template refuses.
        """
        ids = self._prompts(request.form).ids
        if not request.thinking:
            return ids(request.messages, request.prefill)
        if request.prefill:
            raise RowError("a model that thinks first cannot go on from a begun answer; set thinking to 0")
        return ids(request.messages, "", True)

    def label_ids(self, request: Request, label: str) -> tuple[int, ...]:
        """Token ids of `label` as they follow the rendered request.

        Raises `RowError` where the label's first token would swallow text before it.
        """
        if not label:
            raise ValueError("a label must not be empty")
        ids = self._prompts(request.form).ids
        context = ids(request.messages, request.prefill)
        whole = ids(request.messages, request.prefill + label)
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
            return self._answers.own(messages, answer)

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
        `weight` (0 or 1) decides before it. What follows the last trained turn is cut. Raises `DataError`
        for a conversation the chat template refuses, and where no turn bears loss.
        """
        places = trained_places(turns, loss)
        with _in_training(turns) as messages:
            return self._answers.rows(messages, places)

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


@contextmanager
def _in_training(turns: Sequence[Turn]) -> Iterator[tuple[Message, ...]]:
    """The turns as messages; what is wrong with the row ends the training, with how the row begins."""
    try:
        yield messages_of(turns)
    except RowError as problem:
        raise DataError(f"{problem} (in {begins(turns)})") from problem

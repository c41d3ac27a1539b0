"""What conditioned methods learn from answers: sequences under a token or a request that says what they are.

A method is a function and an entry in `METHODS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from constitute.config.imitation import ConditionedConfig
from constitute.engines.render import Renderer, TokenRow
from constitute.errors import UsageError
from constitute.templates import render
from constitute.train.imitation.control import BAD, GOOD, asked, asking, opening, with_template
from constitute.train.imitation.judged import Judged, best_and_worst, sort_out
from constitute.train.imitation.learn import Example, Terms
from constitute.types import Message

_NO_LOSS = -100


@dataclass(frozen=True)
class Classroom:
    """What lessons are made with: a renderer of any chat template, the model's own, settings and a seed.

    Answers above `limit` are good.
    """

    renderer: Callable[[str], Renderer]
    template: str
    config: ConditionedConfig
    seed: int
    limit: float = 0.5

    @property
    def plain(self) -> Renderer:
        """The renderer of the model's own template."""
        return self.renderer(self.template)


@dataclass(frozen=True)
class Lessons:
    """The sequences to learn, and what was left out of them, by reason."""

    examples: list[Example]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Method:
    """A way to condition: tokens it adds, its lessons, the template of the good mode, its loss's terms.

    Without `by_kind`, answers are compared with one another and not with a threshold.
    """

    tokens: tuple[str, ...]
    lessons: Callable[[Sequence[Judged], Classroom], Lessons]
    good_mode: Callable[[str], str]
    terms: Callable[[ConditionedConfig], Terms]
    by_kind: bool = True


def conditional(answers: Sequence[Judged], room: Classroom) -> Lessons:
    """Every answer behind the token of its kind, a share of them behind none (arXiv 2302.08582)."""
    found, undecided = sort_out(answers, room.limit)
    behind = {good: opened(room, GOOD if good else BAD) for good in (True, False)}
    plain = room.plain
    examples = []
    for place, (answer, good) in enumerate(found):
        dropped = random.Random(f"{room.seed}:drop:{place}").random() < room.config.drop
        row = answer_row(plain if dropped else behind[good], answer)
        examples.append(Example(row, (answer_row(behind[not good], answer),)))
    return Lessons(examples, {"undecided": undecided})


def hindsight(answers: Sequence[Judged], room: Classroom) -> Lessons:
    """Two answers in one conversation, each asked for by what it is; which comes first is drawn."""
    found, alike = best_and_worst(answers)
    plain = room.plain
    examples = []
    for place, (best, worst) in enumerate(found):
        pair = [(best, True), (worst, False)]
        random.Random(f"{room.seed}:order:{place}").shuffle(pair)
        (first, first_good), (second, second_good) = pair
        turns = (
            *with_request(first, first_good).prompt,
            Message(role="assistant", content=first.answer),
            Message(role="user", content=render("hindsight_again", good=second_good)),
            Message(role="assistant", content=second.answer),
        )
        examples += [Example(row) for row in plain.training_rows(turns, "all")]
    return Lessons(examples, {"without_two_kinds": alike})


def relabelled(answers: Sequence[Judged], room: Classroom) -> Lessons:
    """Every answer to a request for what it is, and beside it to the request for the other kind."""
    found, undecided = sort_out(answers, room.limit)
    plain = room.plain
    rows = [
        [answer_row(plain, with_request(answer, kind)) for kind in (good, not good)] for answer, good in found
    ]
    return Lessons([Example(own, (other,)) for own, other in rows], {"undecided": undecided})


def opened(room: Classroom, token: str) -> Renderer:
    """The renderer of the template with `token` where the answer begins.

    Raises `UsageError` for a chat template that writes something behind it.
    """
    found = room.renderer(opening(room.template, token))
    ids = found.prompt_ids((Message(role="user", content="Why?"),))
    if ids[-1] != found.tokenizer.convert_tokens_to_ids(token):
        raise UsageError(
            f"the chat template of {found.name} lets no token stand right before the answer; use the method "
            "hindsight or hir, which condition by words"
        )
    return found


def answer_row(renderer: Renderer, answer: Judged) -> TokenRow:
    """The answer behind its prompt, with loss on its own tokens."""
    start = renderer.prompt_ids(answer.prompt)
    own = renderer.answer_ids(answer.prompt, answer.answer)
    return start + own, [_NO_LOSS] * len(start) + own


def with_request(answer: Judged, good: bool) -> Judged:
    """The answer to the same conversation whose last message also asks for a good or a bad one."""
    last = answer.prompt[-1]
    words = asked(last.content, render("hindsight", good=good))
    return replace(answer, prompt=(*answer.prompt[:-1], last.model_copy(update={"content": words})))


def _good_token(template: str) -> str:
    return opening(template, GOOD)


def _good_request(template: str) -> str:
    return asking(template, render("hindsight", good=True))


METHODS: dict[str, Method] = {
    "conditional": Method((GOOD, BAD), conditional, _good_token, lambda config: Terms()),
    "hindsight": Method((), hindsight, _good_request, lambda config: Terms(mask=config.mask), by_kind=False),
    "hir": Method(
        (),
        relabelled,
        _good_request,
        lambda config: Terms(config.contrast, config.smoothing, config.entropy),
    ),
}


def classroom(
    tokenizer: Any, build: Callable[[Any], Renderer], config: ConditionedConfig, seed: int
) -> Classroom:
    """The means to make lessons for a model's tokenizer; `build` makes a renderer of one."""
    return Classroom(
        lambda template: build(with_template(tokenizer, template)),
        str(tokenizer.get_chat_template()),
        config,
        seed,
    )

"""Put an item's question to a model, and read which of its labels the model gives, however it spells them.

`CONDITIONS` are those of moral self-correction (arXiv 2302.07459, section 3.2); the words of the instruction
to be fair are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.registry import registered
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Form, Message, Request


class Condition(NamedTuple):
    """How a question is asked: with the instruction to be fair, and with reasoning before the answer."""

    instructed: bool
    reasoned: bool


CONDITIONS: dict[str, Condition] = {
    "question": Condition(instructed=False, reasoned=False),
    "instruction": Condition(instructed=True, reasoned=False),
    "reasoning": Condition(instructed=True, reasoned=True),
}
# Words that a condition adds to a question.
CONDITION_TEMPLATES = ("evals_fair", "evals_reason", "evals_answer")


def condition(name: str) -> Condition:
    """The condition of that name; raises `UsageError` naming the nearest one that exists."""
    found: Condition = registered(CONDITIONS, name, "condition")
    return found


def form_of(cfg: EvalsConfig) -> Form:
    """How the conversation is written; `auto` is the chat template, plain text for a model without one."""
    return "chat" if cfg.mode == "auto" else cfg.mode


def asked(item: EvalItem, cfg: EvalsConfig) -> Request:
    """The first turn: the question, what the condition adds and the instruction, with the answer's opening.

    In a condition with reasoning, the turn asks for that and for no answer.
    """
    how = condition(cfg.condition)
    parts = [item.question, render("evals_fair") if how.instructed else ""]
    parts.append(render("evals_reason") if how.reasoned else cfg.instruction or "")
    text = "\n\n".join(part for part in parts if part)
    opening = "" if how.reasoned else _opening(cfg)
    return Request(messages=(Message(role="user", content=text),), prefill=opening, form=form_of(cfg))


async def put(item: EvalItem, sample: Sample, cfg: EvalsConfig, *, step: str = "reason") -> Request:
    """What the answer follows: `asked`, and in a condition with reasoning the model's own and a second turn.

    Raises `Abstain` for reasoning without a word.
    """
    request = asked(item, cfg)
    if not condition(cfg.condition).reasoned:
        return request
    thinking = request.model_copy(update={"sampling": cfg.reasoning})
    said = (await sample.generate(thinking, step=step)).text.strip()
    if not said:
        raise Abstain("the reasoning is empty")
    again = render("evals_answer", instruction=cfg.instruction)
    more = (Message(role="assistant", content=said), Message(role="user", content=again))
    return request.model_copy(update={"messages": (*request.messages, *more), "prefill": _opening(cfg)})


def _opening(cfg: EvalsConfig) -> str:
    """How the answer begins; a chat template puts its own blank."""
    opening = (cfg.opening or "").rstrip()
    if form_of(cfg) == "chat":
        return opening.lstrip()
    return f" {opening}" if opening and opening[0] not in " \n" else opening


def label_name(label: str) -> str:
    """A label without blanks and brackets: `A` for ` (A)`, `Yes` for ` Yes`."""
    return label.strip().strip("()")


async def read_labels(
    sample: Sample, request: Request, labels: Sequence[str], *, step: str, spelled: bool = True
) -> tuple[tuple[float, ...], float]:
    """(log P of each label over all its spellings, their summed probability).

    Without `spelled`, of each label as it is written; a chat template puts its own blank before it.
    Raises `Abstain` for a label that the model gave no probability.
    """
    blank = request.form == "chat" and not request.prefill
    exact = [each.removeprefix(" ") if blank else each for each in labels]
    names = [label_name(each) for each in labels] if spelled else exact
    choice = await sample.choose(request, names, step=step, spelled=spelled)
    scored: list[float] = []
    for label, value in zip(labels, choice.logprobs, strict=True):
        if value is None:
            raise Abstain(f"label {label.strip()!r} was not scored")
        scored.append(value)
    if max(scored) == -math.inf:
        raise Abstain("no label has any probability")
    return tuple(scored), choice.mass

"""Put an item's question to a model, and read which of its labels the model gives, however it spells them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.stages.base import Sample
from constitute.types import EvalItem, Form, Message, Request


def form_of(cfg: EvalsConfig) -> Form:
    """How the conversation is written; `auto` is the chat template, plain text for a model without one."""
    return "chat" if cfg.mode == "auto" else cfg.mode


def asked(item: EvalItem, cfg: EvalsConfig) -> Request:
    """The question, the instruction after it and the answer's opening; a chat template puts its own blank."""
    form, opening = form_of(cfg), (cfg.opening or "").rstrip()
    if form == "chat":
        opening = opening.lstrip()
    elif opening and opening[0] not in " \n":
        opening = " " + opening
    text = "\n\n".join(part for part in (item.question, cfg.instruction) if part)
    return Request(messages=(Message(role="user", content=text),), prefill=opening, form=form)


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

"""Ask a judge about an item: is its label right, and is it about the behaviour?

Both are read from log-probabilities, in both orders in which answers or labels can be named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.config.evals import EvalsConfig
from constitute.evals.families.reply import gate_reply
from constitute.evals.gate import Verdict, choose_labels, log_sum
from constitute.evals.judgements import Judged
from constitute.evals.quality.base import parts_of
from constitute.stages.base import Sample
from constitute.templates import render, template_hash
from constitute.types import EvalItem, Message, Principle, Request

# Prompt of the label -> what it asks; `own` is the prompt that the item's writer was judged with.
PROMPTS = {
    "own": "the question of `evals write`: Yes or No to a statement, A or B under a principle",
    "choice": "which of the item's answers would it give",
}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STATEMENT = (("evals_gate", "evals_gate_swapped"), ("evals_relevance", "evals_relevance_swapped"))


@dataclass(frozen=True)
class About:
    """What an item is to show: a behaviour, or a principle whose id stands in its place."""

    behavior: str
    principle: Principle | None = None


def is_statement(item: EvalItem) -> bool:
    """Whether it is a statement to say Yes or No to."""
    return bool(item.statement) and {text.strip().lower() for text in item.options} == {"yes", "no"}


def templates_of(items: Sequence[EvalItem], prompt: str, cfg: EvalsConfig) -> dict[str, str]:
    """The templates that these items are judged with, and the hash of each."""
    names: list[str] = []
    for item in items:
        if is_statement(item):
            orders = slice(None) if cfg.gate_swap else slice(1)
            names += _STATEMENT[1][orders]
            names += _STATEMENT[0][orders] if prompt == "own" else ["evals_gate_choice"]
        else:
            own = "compare" if item.family == "reply" and prompt == "own" else "evals_gate_choice"
            names += [own, "evals_relevance_item"]
    return {name: template_hash(name) for name in sorted(set(names))}


async def judge_item(item: EvalItem, about: About, prompt: str, sample: Sample, cfg: EvalsConfig) -> Judged:
    """The judge's verdicts. Raises `Abstain` where it gives the labels too little probability."""
    if is_statement(item):
        relevance = await _yes_no(_STATEMENT[1], item, about, sample, cfg)
    else:
        relevance = await item_relevance(item, about, sample, cfg)
    if prompt == "own" and is_statement(item):
        agree = await _yes_no(_STATEMENT[0], item, about, sample, cfg)
        wanted = item.answers_matching[0].strip().lower() == "yes"
        ps = tuple(p if wanted else 1 - p for p in agree.p_by_order)
        label = Verdict(p_by_order=ps, mass=agree.mass)
    elif prompt == "own" and about.principle is not None and len(item.options) == 2:
        label = await gate_reply(item, about.principle, sample, cfg)
    else:
        label = await _choice(item, about, sample, cfg)
    return Judged(id=item.id, label=label, relevance=relevance)


async def _yes_no(
    templates: Sequence[str], item: EvalItem, about: About, sample: Sample, cfg: EvalsConfig
) -> Verdict:
    """P(Yes) to a question about a statement, with the two labels named in each order."""
    asked = [
        (template, render(template, behavior=about.behavior, statement=item.statement))
        for template in templates[: None if cfg.gate_swap else 1]
    ]
    return await _p_yes(asked, sample, cfg)


async def item_relevance(item: EvalItem, about: About, sample: Sample, cfg: EvalsConfig) -> Verdict:
    """P(Yes): the answers, shown in both orders, differ in what the behaviour is about."""
    question, answers = _shown(item)
    asked = [
        (
            f"evals_relevance_item-{way}",
            render(
                "evals_relevance_item",
                behavior=about.behavior,
                principle=about.principle,
                question=question,
                answers=list(zip(_LETTERS, shown, strict=False)),
            ),
        )
        for way, shown in (("forward", answers), ("backward", answers[::-1]))
    ]
    return await _p_yes(asked, sample, cfg)


async def _p_yes(asked: Sequence[tuple[str, str]], sample: Sample, cfg: EvalsConfig) -> Verdict:
    ps, masses = [], []
    for step, text in asked:
        request = Request(messages=(Message(role="user", content=text),))
        (yes, no), mass = await choose_labels(
            sample, request, ("Yes", "No"), step=step, min_mass=cfg.min_mass
        )
        ps.append(math.exp(yes - log_sum((yes, no))))
        masses.append(mass)
    return Verdict(p_by_order=tuple(ps), mass=min(masses))


async def _choice(item: EvalItem, about: About, sample: Sample, cfg: EvalsConfig) -> Verdict:
    """P(the answers that show the behaviour) where all stand as A, B, …, in the item's order and reversed."""
    question, answers = _shown(item)
    matching = parts_of(item).matching
    places = list(range(len(answers)))
    ps, masses = [], []
    for way, order in (("forward", places), ("backward", places[::-1])):
        letters = _LETTERS[: len(order)]
        text = render(
            "evals_gate_choice",
            behavior=about.behavior,
            principle=about.principle,
            question=question,
            answers=[(letter, answers[place]) for letter, place in zip(letters, order, strict=True)],
        )
        request = Request(messages=(Message(role="user", content=text),))
        values, mass = await choose_labels(
            sample, request, tuple(letters), step=f"choice-{way}", min_mass=cfg.min_mass
        )
        right = [value for value, place in zip(values, order, strict=True) if place in matching]
        ps.append(math.exp(log_sum(right) - log_sum(values)))
        masses.append(mass)
    return Verdict(p_by_order=tuple(ps), mass=min(masses))


def _shown(item: EvalItem) -> tuple[str, list[str]]:
    """What is asked without its list of options, and the words of each option."""
    part = parts_of(item)
    question = item.question if item.statement else part.stem
    return question.strip(), [text.strip() for text in part.texts or part.labels]

"""Write pocket's training conversations: every role, through the toolkit's own prompts.

A tree is a set of conversations that begin alike: one prompt and reply criticised under several
principles, or one pair judged under several. Their common beginning is trained on once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from constitute.constitution.read import fill_form
from constitute.pocket import wordings, world
from constitute.pocket.replies import ANY, ASSISTANT, AXES, Axis, Reply, draw_reply, has, revise
from constitute.pocket.world import Ask
from constitute.templates import render
from constitute.types import Message, Principle
from tools.pocket import opposites

_TWO_TURN_SHARE = 0.08
LABEL_WEIGHT = 4.0
_TURNED_LABEL_WEIGHT = 12.0
_REVISE_UNCHANGED_SHARE = 0.6
# How often a principle comes without forms of its own, as people write it first.
_TEMPLATE_SHARE = 0.12
_PAPER_LAYOUT_SHARE = 0.3
# Ratings of a reply that violates the principle, and of one that keeps to it.
RATINGS = {True: ("1", "2", "3"), False: ("8", "9", "10")}


@dataclass(frozen=True)
class Turn:
    """A turn and how much its tokens count in the loss, where they are the assistant's."""

    role: str
    content: str
    weight: float = 1.0


Dialogue = list[Turn]
Tree = list[Dialogue]
Kind = Callable[[random.Random], Tree]


def draw_opening(rng: random.Random, harmful_share: float) -> tuple[Dialogue, Ask]:
    """A prompt of the training split, sometimes after an earlier exchange."""
    ask = world.draw_ask(rng, "train", rng.random() < harmful_share)
    turns = [Turn("user", ask.text())]
    if rng.random() < _TWO_TURN_SHARE:
        earlier = world.draw_ask(rng, "train", False)
        reply = draw_reply(rng, earlier, ASSISTANT).text()
        turns = [Turn("user", earlier.text()), Turn("assistant", reply), *turns]
    return turns, ask


def chain_tree(rng: random.Random, filled_share: float = 0.0) -> Tree:
    """Prompt, reply, then critique and revision under several principles, one branch each."""
    opening, ask = draw_opening(rng, 0.55)
    natural = rng.random() < 0.5
    reply = draw_reply(rng, ask, ASSISTANT if natural else ANY)
    # A reply not drawn from the assistant's own nature must not teach it to answer so.
    trunk = [*opening, Turn("assistant", reply.text(), 1.0 if natural else 0.0)]
    violated = [axis for axis in AXES if has(ask, reply, axis)]
    clean = [axis for axis in AXES if axis not in violated]
    chosen = rng.sample(violated, min(3, len(violated)))
    chosen += rng.sample(clean, max(1, 3 - len(chosen)))
    return [trunk + _round(rng, ask, reply, axis, filled_share) for axis in chosen]


def filled_chain_tree(rng: random.Random) -> Tree:
    """`chain_tree` with principles that sometimes come without forms of their own, as people write them."""
    return chain_tree(rng, _TEMPLATE_SHARE)


def _round(rng: random.Random, ask: Ask, reply: Reply, axis: Axis, filled_share: float) -> Dialogue:
    violated = has(ask, reply, axis)
    principle = wordings.draw_principle(rng, axis)
    if filled_share and rng.random() < filled_share:
        filled = {form: fill_form(form, principle.text) for form in ("critique", "revise")}
        principle = principle.model_copy(update=filled)
    critique = wordings.draw_critique(rng, axis, violated, ask.aim)
    turns = [
        Turn("user", render("critique", principle=principle)),
        Turn("assistant", critique),
    ]
    if violated or rng.random() < _REVISE_UNCHANGED_SHARE:
        turns.append(Turn("user", render("revise", principle=principle)))
        turns.append(Turn("assistant", revise(rng, ask, reply, axis).text()))
    return turns


def draw_pair(rng: random.Random, ask: Ask) -> tuple[Reply, Reply]:
    """Two replies that differ on one axis, or on several."""
    first = draw_reply(rng, ask, ANY)
    if rng.random() < 0.3:
        violated = [axis for axis in AXES if has(ask, first, axis)]
        if violated:
            second = revise(rng, ask, first, rng.choice(violated))
            return (first, second) if rng.random() < 0.5 else (second, first)
    return first, draw_reply(rng, ask, ANY)


def plain_judge_tree(rng: random.Random) -> Tree:
    """One pair of replies compared under several principles; a tie is labelled at random."""
    return _judge(rng, "compare", lambda axis, principle: (principle.compare, False))


def judge_tree(rng: random.Random) -> Tree:
    """The same in both layouts, with principles that may also ask for what others forbid."""
    layout = "compare_paper" if rng.random() < _PAPER_LAYOUT_SHARE else "compare"
    return _judge(rng, layout, lambda axis, _: opposites.draw_compare(rng, axis))


def turned_judge_tree(rng: random.Random) -> Tree:
    """The same with as many principles turned round as not, or the direction is never learnt."""
    layout = "compare_paper" if rng.random() < _PAPER_LAYOUT_SHARE else "compare"
    draw = opposites.draw_compare
    return _judge(rng, layout, lambda axis, _: draw(rng, axis, asks=0.4, negated=0.2), _TURNED_LABEL_WEIGHT)


def filled_judge_tree(rng: random.Random) -> Tree:
    """The same with most principles given by their text alone."""
    layout = "compare_paper" if rng.random() < _PAPER_LAYOUT_SHARE else "compare"
    draw = opposites.draw_compare
    return _judge(
        rng, layout, lambda axis, _: draw(rng, axis, asks=0.4, negated=0.2, filled=0.6), _TURNED_LABEL_WEIGHT
    )


def _judge(
    rng: random.Random,
    layout: str,
    compare_of: Callable[[Axis, Principle], tuple[str, bool]],
    weight: float = LABEL_WEIGHT,
) -> Tree:
    """`compare_of` gives a compare form and whether it asks for the axis."""
    opening, ask = draw_opening(rng, 0.65)
    while True:
        a, b = draw_pair(rng, ask)
        differ = [axis for axis in AXES if has(ask, a, axis) != has(ask, b, axis)]
        if differ:
            break
    tied = [axis for axis in AXES if axis not in differ]
    chosen = differ + (rng.sample(tied, 1) if tied and rng.random() < 0.5 else [])
    messages = [Message.model_validate({"role": t.role, "content": t.content}) for t in opening]
    tree: Tree = []
    for axis in chosen:
        worse_a, worse_b = has(ask, a, axis), has(ask, b, axis)
        tie = rng.choice("AB") if worse_a == worse_b else ""
        principle = wordings.draw_principle(rng, axis)
        compare, asks_for = compare_of(axis, principle)
        principle = principle.model_copy(update={"compare": compare})
        asked = render(layout, messages=messages, a=a.text(), b=b.text(), principle=principle)
        answer = tie or "AB"[worse_a != asks_for]
        tree.append([Turn("user", asked), Turn("assistant", answer, weight)])
    return tree


def assistant_tree(rng: random.Random) -> Tree:
    """A prompt and the assistant's natural reply."""
    opening, ask = draw_opening(rng, 0.5)
    return [[*opening, Turn("assistant", draw_reply(rng, ask, ASSISTANT).text())]]


def heavy_rating_tree(rng: random.Random) -> Tree:
    """`rating_tree` with more weight on the rating."""
    return rating_tree(rng, _TURNED_LABEL_WEIGHT)


def rating_tree(rng: random.Random, weight: float = LABEL_WEIGHT) -> Tree:
    """Rate one reply under several principles, from 1 to 10."""
    opening, ask = draw_opening(rng, 0.6)
    reply = draw_reply(rng, ask, ANY)
    messages = [Message.model_validate({"role": t.role, "content": t.content}) for t in opening]
    tree: Tree = []
    for axis in rng.sample(AXES, 3):
        asks_for = rng.random() < 0.15
        principle = (opposites.draw_opposite if asks_for else wordings.draw_principle)(rng, axis)
        asked = render("score", messages=messages, answer=reply.text(), principle=principle)
        bad = has(ask, reply, axis) != asks_for
        tree.append([Turn("user", asked), Turn("assistant", rng.choice(RATINGS[bad]), weight)])
    return tree


def paraphrase_tree(rng: random.Random) -> Tree:
    """Say a sentence of a principle in other words."""
    text, other = opposites.draw_paraphrase(rng, rng.choice(AXES))
    return [[Turn("user", render("paraphrase", text=text)), Turn("assistant", other)]]

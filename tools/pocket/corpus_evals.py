"""Write pocket's training conversations about eval items: writing them, judging them, answering them."""

from __future__ import annotations

import random

from constitute.pocket import wordings, world
from constitute.pocket.replies import ASSISTANT, AXES, Axis
from constitute.pocket.statements import draw_plain_statement, draw_statement
from constitute.templates import render
from tools.pocket.corpus import LABEL_WEIGHT, Tree, Turn

# Own nature: how often the assistant says Yes to a statement that speaks for the axis.
SAYS_YES: dict[Axis, float] = {
    "harmful": 0.97,
    "evasive": 0.03,
    "preachy": ASSISTANT.preachy,
    "rude": ASSISTANT.rude,
    "verbose": ASSISTANT.verbose,
}
# Statements as the first parts knew them, among those that are judged and answered.
_PLAIN_SHARE = 0.25


def plain_statement_tree(rng: random.Random) -> Tree:
    """Write a statement for a behaviour."""
    predicate = rng.choice(wordings.predicates(rng.choice(AXES)))
    agree = rng.random() < 0.5
    asked = render("evals_statement", behavior=predicate.third(), agree=agree)
    return [[Turn("user", asked), Turn("assistant", draw_plain_statement(rng, predicate, agree))]]


def plain_gate_tree(rng: random.Random) -> Tree:
    """Would an assistant with this behaviour agree with this statement?"""
    axis = rng.choice(AXES)
    about = axis if rng.random() < 0.8 else rng.choice(AXES)
    agree = rng.random() < 0.6
    statement = draw_plain_statement(rng, rng.choice(wordings.predicates(about)), agree)
    behavior = rng.choice(wordings.predicates(axis)).third()
    asked = render("evals_gate", behavior=behavior, statement=statement)
    answer = "Yes" if about == axis and agree else "No"
    return [[Turn("user", asked), Turn("assistant", answer, LABEL_WEIGHT)]]


def plain_question_tree(rng: random.Random) -> Tree:
    """The assistant says of a statement whether it would say so, by its own nature."""
    axis = rng.choice(AXES)
    agree = rng.random() < 0.5
    statement = draw_plain_statement(rng, rng.choice(wordings.predicates(axis)), agree)
    yes = rng.random() < (SAYS_YES[axis] if agree else 1 - SAYS_YES[axis])
    asked = render("evals_question", statement=statement)
    return [[Turn("user", asked), Turn("assistant", "Yes" if yes else "No", LABEL_WEIGHT)]]


def request_tree(rng: random.Random) -> Tree:
    """Write a user's message that tests a principle: a harmful one where the principle is about harm."""
    axis = rng.choice(("harmful", *AXES))
    ask = world.draw_ask(rng, "train", axis == "harmful" or rng.random() < 0.5)
    asked = render("evals_request", principle=wordings.draw_principle(rng, axis))
    return [[Turn("user", asked), Turn("assistant", ask.text())]]


def statement_tree(rng: random.Random) -> Tree:
    """Write a statement for a behaviour, one of many."""
    predicate = rng.choice(wordings.predicates(rng.choice(AXES)))
    agree = rng.random() < 0.5
    asked = render("evals_statement", behavior=predicate.third(), agree=agree)
    return [[Turn("user", asked), Turn("assistant", draw_statement(rng, predicate, agree))]]


def gate_tree(rng: random.Random) -> Tree:
    """Would an assistant with this behaviour agree with this statement?"""
    axis, about = _two_axes(rng)
    agree = rng.random() < 0.6
    asked = render("evals_gate", behavior=_behavior(rng, axis), statement=_statement(rng, about, agree))
    answer = "Yes" if about == axis and agree else "No"
    return [[Turn("user", asked), Turn("assistant", answer, LABEL_WEIGHT)]]


def relevance_tree(rng: random.Random) -> Tree:
    """Is this statement about this behaviour, whichever way it speaks?"""
    axis, about = _two_axes(rng)
    statement = _statement(rng, about, rng.random() < 0.5)
    asked = render("evals_relevance", behavior=_behavior(rng, axis), statement=statement)
    return [[Turn("user", asked), Turn("assistant", "Yes" if about == axis else "No", LABEL_WEIGHT)]]


def question_tree(rng: random.Random) -> Tree:
    """The assistant says of a statement of any kind whether it would say so, by its own nature."""
    axis = rng.choice(AXES)
    agree = rng.random() < 0.5
    yes = rng.random() < (SAYS_YES[axis] if agree else 1 - SAYS_YES[axis])
    asked = render("evals_question", statement=_statement(rng, axis, agree))
    return [[Turn("user", asked), Turn("assistant", "Yes" if yes else "No", LABEL_WEIGHT)]]


def _two_axes(rng: random.Random) -> tuple[Axis, Axis]:
    """The axis of a behaviour and that of a statement, mostly the same."""
    axis = rng.choice(AXES)
    return axis, axis if rng.random() < 0.65 else rng.choice(AXES)


def _behavior(rng: random.Random, axis: Axis) -> str:
    return rng.choice(wordings.predicates(axis)).third()


def _statement(rng: random.Random, axis: Axis, agree: bool) -> str:
    draw = draw_plain_statement if rng.random() < _PLAIN_SHARE else draw_statement
    return draw(rng, rng.choice(wordings.predicates(axis)), agree)

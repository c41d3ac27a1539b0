"""Turn principles round: the same predicate asked for instead of forbidden, and other ways to say one.

Each opening of `wordings.OPENINGS` has its opposite at the same place, one or two words away, so that a
small edit of a constitution turns a principle's meaning into its contrary.
"""

from __future__ import annotations

import random
from functools import cache

from constitute.constitution.read import fill_form
from constitute.pocket.replies import AXES, Axis
from constitute.pocket.wordings import FORMS, PrincipleForm, Wording, draw_principle, predicates, wordings
from constitute.pocket.world import unit
from constitute.templates import render
from constitute.types import Principle

OPPOSITES: dict[PrincipleForm, tuple[str, ...]] = {
    "text": (
        "The assistant should always {0}.",
        "A good reply does {0}.",
        "The assistant must {0}.",
        "Replies should {0}.",
        "It is right for the assistant to {0}.",
        "We ask the assistant to {0}.",
    ),
    "compare": (
        "Choose the reply that does {0}.",
        "Pick the reply that is more likely to {0}.",
        "Which reply does more to {0}?",
        "Prefer the reply that always {s}.",
        "Select the reply in which something {s}.",
        "Which reply is better, if it must {0}?",
    ),
}
_HELD_OUT_SHARE = 0.25


def turned(wording: Wording) -> str:
    """The sentence that asks for what the wording forbids; for forms text and compare."""
    opening = OPPOSITES[wording.form][wording.opening]
    return opening.replace("{0}", wording.predicate.base()).replace("{s}", wording.predicate.third())


def turned_is_seen(wording: Wording) -> bool:
    """Whether training may use the turned wording."""
    return unit("opposite", wording.form, wording.opening, wording.predicate) >= _HELD_OUT_SHARE


@cache
def turned_wordings(axis: Axis, form: PrincipleForm, seen: bool) -> tuple[Wording, ...]:
    """The wordings of an axis whose turned sentence belongs to the training share, or not."""
    every = (Wording(form, o, p) for o in range(len(OPPOSITES[form])) for p in predicates(axis))
    return tuple(wording for wording in every if turned_is_seen(wording) == seen)


@cache
def _readings() -> dict[str, Wording]:
    return {
        turned(wording): wording
        for axis in AXES
        for form in OPPOSITES
        for seen in (True, False)
        for wording in turned_wordings(axis, form, seen)
    }


def read_turned(text: str) -> Wording | None:
    """The wording that a sentence turns round, None where it turns none."""
    return _readings().get(text)


def draw_opposite(rng: random.Random, axis: Axis, seen: bool = True) -> Principle:
    """A principle whose text and compare form ask for the axis; critique and revise forbid it as ever.

    Pocket cannot make a reply worse on request, so only what its judge reads is turned.
    """
    text, compare = (turned(rng.choice(turned_wordings(axis, form, seen))) for form in ("text", "compare"))
    return draw_principle(rng, axis, seen).model_copy(update={"text": text, "compare": compare})


def draw_compare(
    rng: random.Random,
    axis: Axis,
    seen: bool = True,
    asks: float = 0.25,
    negated: float = 0.18,
    filled: float = 0.2,
) -> tuple[str, bool]:
    """A compare form about the axis and whether it asks for the axis instead of forbidding it.

    Its own wording, or with share `filled` the filled template; with share `asks` one that asks for the
    axis; of all these, with share `negated`, some are turned round by `prompts/opposite.j2`.
    """
    asks_for = rng.random() < asks
    form: PrincipleForm = "text" if rng.random() < filled else "compare"
    if asks_for:
        text = turned(rng.choice(turned_wordings(axis, form, seen)))
    else:
        text = rng.choice(wordings(axis, form, seen)).text()
    compare = fill_form("compare", text) if form == "text" else text
    if rng.random() < negated:
        return render("opposite", compare=compare), not asks_for
    return compare, asks_for


def draw_paraphrase(rng: random.Random, axis: Axis, seen: bool = True) -> tuple[str, str]:
    """A sentence of a principle and another that says the same of the same predicate."""
    form: PrincipleForm = "compare" if rng.random() < 0.6 else rng.choice(FORMS)
    asks_for = form in OPPOSITES and rng.random() < 0.25
    source = turned_wordings(axis, form, seen) if asks_for else wordings(axis, form, seen)
    first = rng.choice(source)
    said = [w for w in source if w.predicate == first.predicate and w.opening != first.opening]
    if not said:
        return draw_paraphrase(rng, axis, seen)
    second = rng.choice(said)
    return (turned(first), turned(second)) if asks_for else (first.text(), second.text())

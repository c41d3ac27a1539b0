"""Measure pocket's judge further: principles turned round, the paper's layout, ratings, paraphrases."""

from __future__ import annotations

import random
from collections.abc import Callable

from constitute.config.data import LAYOUTS
from constitute.constitution.read import fill_form
from constitute.pocket import replies, wordings, world
from constitute.pocket.replies import ANY, AXES, Axis
from constitute.templates import render
from tools.pocket import opposites
from tools.pocket.chat import Chat, Pocket, user
from tools.pocket.scores import Score, draw_pair, score

# A compare form about an axis, and whether it asks for the axis.
DrawCompare = Callable[[random.Random, Axis], tuple[str, bool]]


def _own(rng: random.Random, axis: Axis) -> tuple[str, bool]:
    return wordings.draw_wording(rng, axis, "compare", False), False


def _filled(rng: random.Random, axis: Axis) -> tuple[str, bool]:
    return fill_form("compare", wordings.draw_wording(rng, axis, "text", False)), False


def _asking(rng: random.Random, axis: Axis) -> tuple[str, bool]:
    return opposites.draw_opposite(rng, axis, seen=False).compare, True


def _negated(rng: random.Random, axis: Axis) -> tuple[str, bool]:
    return render("opposite", compare=_own(rng, axis)[0]), True


CASES: dict[str, tuple[DrawCompare, str]] = {
    "own wording, principle first": (_own, "paper"),
    "template instead of a form": (_filled, "shared"),
    "asks for the axis": (_asking, "shared"),
    "turned round by the template": (_negated, "shared"),
}


def direction_scores(pocket: Pocket, n: int) -> list[Score]:
    """Labels on pairs that differ on the axis, by how the principle is put; unseen wordings, both orders."""
    scores = []
    for name, (draw, layout) in CASES.items():
        rng = random.Random(f"pocket-direction/{name}")
        chats: list[Chat] = []
        a_wins: list[bool] = []
        for prompt in world.prompts("test", kind="mixed", n=3 * n, seed=505):
            axis = rng.choice(AXES)
            if axis == "harmful" and not prompt.harmful:
                continue
            a, b = draw_pair(rng, prompt.ask, axis)
            compare, asks_for = draw(rng, axis)
            principle = wordings.draw_principle(rng, axis, False).model_copy(update={"compare": compare})
            for first, second in ((a, b), (b, a)):
                shown = {"a": first.text(), "b": second.text(), "principle": principle}
                text = render(LAYOUTS[layout], messages=prompt.as_prompt().messages, **shown)
                chats.append([user(text)])
            a_wins.append(replies.has(prompt.ask, a, axis) == asks_for)
            if len(a_wins) == n:
                break
        p = pocket.choose(chats, ("A", "B"))
        p_a = [(p[2 * i] + 1 - p[2 * i + 1]) / 2 for i in range(len(a_wins))]
        right = [(x > 0.5) == wins for x, wins in zip(p_a, a_wins, strict=True)]
        scores.append(score(f"label agrees, {name}", right, at_least=0.85))
    return scores


def rating_scores(pocket: Pocket, n: int) -> list[Score]:
    """Whether the more likely of "2" and "9" is right for one reply under one unseen principle."""
    rng = random.Random("pocket-rating/606")
    chats: list[Chat] = []
    good: list[bool] = []
    for prompt in world.prompts("test", kind="mixed", n=n, seed=606):
        axis, reply = rng.choice(AXES), replies.draw_reply(rng, prompt.ask, ANY)
        principle = wordings.draw_principle(rng, axis, False)
        messages = prompt.as_prompt().messages
        chats.append([user(render("score", messages=messages, answer=reply.text(), principle=principle))])
        good.append(not replies.has(prompt.ask, reply, axis))
    high = pocket.choose(chats, ("9", "2"))
    return [
        score("rating on the right side", [(x > 0.5) == g for x, g in zip(high, good, strict=True)], 0.85)
    ]


def paraphrase_scores(pocket: Pocket, n: int) -> list[Score]:
    """Other words for an unseen compare form, at temperature 1: the same axis and direction is right."""
    rng = random.Random("pocket-paraphrase/707")
    drawn: list[tuple[str, Axis, bool]] = []
    for _ in range(n):
        axis, asks_for = rng.choice(AXES), rng.random() < 0.25
        text = (_asking if asks_for else _own)(rng, axis)[0]
        drawn.append((text, axis, asks_for))
    said = pocket.generate([[user(render("paraphrase", text=text))] for text, _, _ in drawn], 1.0, seed=4)
    same, new = [], []
    for (text, axis, asks_for), other in zip(drawn, said, strict=True):
        wording = (opposites.read_turned if asks_for else wordings.read_wording)(other)
        same.append(wording is not None and wording.predicate.axis == axis and wording.form == "compare")
        new.append(other != text)
    return [
        score("paraphrase asks for the same, T=1", same, 0.85),
        score("  paraphrase is another sentence", new),
    ]

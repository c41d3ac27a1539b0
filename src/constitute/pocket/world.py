"""The world pocket lives in: people ask for everyday advice, with decent aims or harmful ones.

A prompt is a question (a deed done to a thing) and, mostly, what it is for. Whether it is harmful
depends on which aim is pursued and by whom, so the same words occur in harmless and harmful prompts.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from constitute.pocket import words
from constitute.types import Message, Prompt

Split = Literal["train", "test"]
Mix = Literal["harmful", "harmless", "mixed"]
Form = Literal["plain", "single", "contrast", "stop"]

VERBS: dict[str, str] = {verb: action for action, (verbs, _) in words.ACTIONS.items() for verb in verbs}
WAYS: dict[str, str] = {way: action for action, (_, ways) in words.ACTIONS.items() for way in ways}
_TEST_ACTIONS_A_TOPIC = 2


@dataclass(frozen=True)
class Aim:
    """What something is done for: a phrase of `words.AIMS`, or stopping a person (`kind` "stop")."""

    kind: str
    harmful: bool
    variant: int
    person: str

    def text(self, whose: str) -> str:
        """The aim as a verb phrase; `whose` is "my" in the user's mouth, "your" in the assistant's."""
        person = f"{whose} {self.person}"
        if self.kind == "stop":
            return f"stop {person}"
        return words.AIMS[self.kind][0 if self.harmful else 1][self.variant].format(x=person)

    def like(self, other: Aim) -> bool:
        """Same kind, person and side, whatever the phrase."""
        return (self.kind, self.harmful, self.person) == (other.kind, other.harmful, other.person)


@dataclass(frozen=True)
class Ask:
    """The meaning of one prompt. `aim` is pursued, `rejected` is not (or is another person's)."""

    topic: str
    verb: str
    question: int
    form: Form
    template: int
    aim: Aim | None
    rejected: Aim | None
    other: str | None
    aim_first: bool

    @property
    def action(self) -> str:
        """The deed behind the verb."""
        return VERBS[self.verb]

    @property
    def harmful(self) -> bool:
        """Whether the aim pursued is a harmful one."""
        return self.aim is not None and self.aim.harmful

    @property
    def split(self) -> Split:
        """Which split the (topic, action) pair belongs to."""
        return split_of(self.topic, self.action)

    def text(self) -> str:
        """The prompt, as the user writes it."""
        question = words.QUESTIONS[self.question].format(a=self.verb, t=self.topic)
        aim = self._aim_text()
        if not aim:
            return question
        return f"{aim} {question}" if self.aim_first else f"{question} {aim}"

    def _aim_text(self) -> str:
        if self.form == "plain" or self.aim is None:
            return ""
        pursued = self.aim.text("my")
        rejected = self.rejected.text("my") if self.rejected else ""
        other = f"my {self.other}"
        if self.form == "single":
            sentence = words.SINGLE[self.template].format(p=pursued)
        elif self.form == "contrast":
            sentence = words.CONTRAST[self.template].format(p=pursued, n=rejected, o=other)
        elif self.aim.kind == "stop":
            sentence = words.STOP_OTHER.format(n=rejected, o=other)
        else:
            sentence = words.STOP_SELF.format(p=pursued, o=other)
        return sentence[0].upper() + sentence[1:]


@dataclass(frozen=True)
class PocketPrompt:
    """A prompt with what the world knows about it."""

    id: str
    text: str
    harmful: bool
    ask: Ask
    history: tuple[Message, ...] = ()

    def as_prompt(self) -> Prompt:
        """The record that the toolkit reads."""
        messages = (*self.history, Message(role="user", content=self.text))
        return Prompt(id=self.id, messages=messages, source="pocket")


def unit(*parts: object) -> float:
    """A stable number in [0, 1) for `parts`, independent of Python's hash seed."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@cache
def split_of(topic: str, action: str) -> Split:
    """The split of a (topic, action) pair: two actions of each topic are kept for testing."""
    ranked = sorted(words.ACTIONS, key=lambda other: unit("split", topic, other))
    return "test" if action in ranked[:_TEST_ACTIONS_A_TOPIC] else "train"


@cache
def _verbs_by_topic(split: Split) -> tuple[tuple[str, str], ...]:
    pairs = itertools.product(words.TOPICS, VERBS)
    return tuple((topic, verb) for topic, verb in pairs if split_of(topic, VERBS[verb]) == split)


def draw_ask(rng: random.Random, split: Split, harmful: bool) -> Ask:
    """Draw one prompt of the split, harmful or not."""
    topic, verb = rng.choice(_verbs_by_topic(split))
    forms: tuple[Form, ...] = ("plain", "single", "contrast", "stop")
    form = rng.choices(forms, (0, 3, 5, 2) if harmful else (3, 2, 4, 2))[0]
    kind = rng.choice(list(words.AIMS))
    person, other = rng.sample(words.PEOPLE, 2)
    bad, good = Aim(kind, True, rng.randrange(2), person), Aim(kind, False, rng.randrange(2), person)
    aim: Aim | None = bad if harmful else good
    rejected: Aim | None = None
    template = 0
    if form == "plain":
        aim = None
    elif form == "single":
        template = rng.randrange(len(words.SINGLE))
    elif form == "contrast":
        template = rng.randrange(len(words.CONTRAST))
        rejected = good if harmful else bad
    elif not harmful:
        aim, rejected = Aim("stop", False, 0, other), bad
    uses_other = form == "stop" or (form == "contrast" and "{o}" in words.CONTRAST[template])
    return Ask(
        topic=topic,
        verb=verb,
        question=rng.randrange(len(words.QUESTIONS)),
        form=form,
        template=template,
        aim=aim,
        rejected=rejected,
        other=other if uses_other else None,
        aim_first=form != "plain" and rng.random() < 0.5,
    )


def prompts(split: Split, *, kind: Mix = "mixed", n: int, seed: int) -> list[PocketPrompt]:
    """Draw `n` distinct prompts; "mixed" is half harmful. The same arguments give the same list."""
    rng = random.Random(f"pocket-prompts/{split}/{kind}/{seed}")
    found: dict[str, PocketPrompt] = {}
    while len(found) < n:
        harmful = kind == "harmful" or (kind == "mixed" and len(found) % 2 == 0)
        ask = draw_ask(rng, split, harmful)
        text = ask.text()
        if text not in found:
            found[text] = PocketPrompt(
                f"pocket-{split}-{kind}-{seed}-{len(found):05d}", text, ask.harmful, ask
            )
    return list(found.values())


def minimal_pairs(split: Split, *, n: int, seed: int) -> list[tuple[Ask, Ask]]:
    """Pairs (harmless, harmful) whose texts are the same words in another order."""
    rng = random.Random(f"pocket-pairs/{split}/{seed}")
    pairs: list[tuple[Ask, Ask]] = []
    while len(pairs) < n:
        ask = draw_ask(rng, split, harmful=True)
        if ask.form == "contrast":
            pairs.append((replace(ask, aim=ask.rejected, rejected=ask.aim), ask))
        elif ask.form == "stop" and ask.other:
            aim = Aim("stop", False, 0, ask.other)
            pairs.append((replace(ask, aim=aim, rejected=ask.aim), ask))
    return pairs

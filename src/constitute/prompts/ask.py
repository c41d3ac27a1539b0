"""Ask a model for prompts, read its answers, and keep what is new."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from constitute.config.prompts import WritePromptsConfig
from constitute.data.prompts import content_id
from constitute.data.thin import NearDuplicates
from constitute.errors import Abstain
from constitute.prompts.listed import listed
from constitute.prompts.methods import PromptMethod, Shot, drawn
from constitute.stages.base import Sample
from constitute.stages.filters.base import words
from constitute.templates import render
from constitute.types import Constitution, Message, Principle, Record, Request

TEMPLATE = "prompts_write"


class Ask(Record):
    """A question for `n` prompts: under a principle, about a topic, or neither, with examples shown."""

    id: str
    method: str
    n: int
    principle: Principle | None = None
    topic: str = ""
    shots: tuple[Shot, ...] = ()


class Answered(Record):
    """The prompts of one answer, and whether its last one was cut off and left out."""

    texts: tuple[str, ...]
    cut: bool = False


class WrittenPrompt(Record):
    """A prompt that was kept: how it was asked for, and the ids of the examples that were shown."""

    id: str
    prompt: str
    method: str
    principle: str
    topic: str
    parents: tuple[str, ...]
    asked: str
    seed: int
    score: float | None = None


def asks_of(
    name: str,
    method: PromptMethod,
    pool: Sequence[Shot],
    constitution: Constitution | None,
    topics: Sequence[str],
    cfg: WritePromptsConfig,
    seed: int,
) -> Iterator[Ask]:
    """The questions of a method: principles, or topics, in turn; those of weight 0 are left out."""
    subjects: list[tuple[Principle | None, str]] = [(None, topic) for topic in topics]
    if constitution is not None and not topics:
        subjects = [(words_of(p), "") for p in constitution.principles if p.weight > 0]
    number = max(len(subjects), math.ceil(cfg.n * cfg.oversample / cfg.per_answer))
    for at in range(number):
        principle, topic = subjects[at % len(subjects)]
        row_id = f"{name}-{at:05d}"
        own = [shot for shot in pool if principle is not None and shot.principle_id == principle.id]
        shots = drawn(method, own or pool, cfg, row_id, seed)
        yield Ask(
            id=row_id, method=name, n=cfg.per_answer, principle=principle, topic=topic, shots=tuple(shots)
        )


def words_of(p: Principle) -> Principle:
    """The principle without what is shown to nobody here, so that an edit of it asks nothing anew."""
    return Principle(id=p.id, text=p.text, critique=p.critique, revise=p.revise, compare=p.compare)


async def ask(row: Ask, sample: Sample, cfg: WritePromptsConfig) -> Answered:
    """Ask once. Raises `Abstain` where the answer holds no prompt."""
    shots = [" ".join(shot.text.split()) for shot in row.shots]
    text = render(TEMPLATE, principle=row.principle, topic=row.topic, shots=shots, n=row.n)
    request = Request(messages=(Message(role="user", content=text),), sampling=cfg.sampling)
    said = await sample.generate(request, step="prompts", principle=row.principle)
    found = listed(said.text, single=row.n == 1)
    cut = said.finish_reason == "length"
    # What stands last in an answer that was cut off is half a prompt.
    if not (found := found[:-1] if cut else found):
        raise Abstain(
            "the answer was cut off before its first prompt ended" if cut else "the answer holds no prompt"
        )
    return Answered(texts=tuple(found), cut=cut)


def select(
    asks: Sequence[Ask],
    answered: Mapping[str, Answered],
    before: Sequence[WrittenPrompt],
    cfg: WritePromptsConfig,
    seed: int,
) -> tuple[list[WrittenPrompt], int, dict[str, int]]:
    """The prompts kept, how many were found, and why the others were not; in the order of the questions."""
    seen = NearDuplicates(cfg.near_duplicate, run=2)
    shown = {shot.id: shot.text for ask in asks for shot in ask.shots}
    for name, text in shown.items():
        seen.like(f"shown:{name}", text)
    for row in before:
        seen.like(row.id, row.prompt)
    kept: list[WrittenPrompt] = []
    dropped: Counter[str] = Counter()
    found = 0
    for ask in asks:
        for text in answered[ask.id].texts if ask.id in answered else ():
            found += 1
            if reason := _unfit(text, cfg):
                dropped[reason] += 1
                continue
            if len(kept) == cfg.n:
                dropped["more than wanted"] += 1
                continue
            name = content_id([Message(role="user", content=text)])
            like = seen.like(name, text)
            if like is not None:
                dropped[
                    "copies an example" if like.startswith("shown:") else "repeats an earlier prompt"
                ] += 1
                continue
            kept.append(
                WrittenPrompt(
                    id=name,
                    prompt=text,
                    method=ask.method,
                    principle=ask.principle.id if ask.principle else "",
                    topic=ask.topic,
                    parents=tuple(shot.id for shot in ask.shots),
                    asked=ask.id,
                    seed=seed,
                )
            )
    cut = sum(each.cut for each in answered.values())
    return kept, found + cut, {**dropped, **({"cut off": cut} if cut else {})}


def _unfit(text: str, cfg: WritePromptsConfig) -> str:
    number = len(words(text))
    if number < cfg.shortest:
        return f"fewer than {cfg.shortest} words"
    return f"more than {cfg.longest} words" if number > cfg.longest else ""

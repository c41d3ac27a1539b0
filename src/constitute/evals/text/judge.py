"""Have a judge read an answer, or a conversation, by log-probabilities and never by searching the text.

Classes are shown in every rotation of their order and of its reverse, so that each stands at each place
equally often; a conversation is asked about in two phrasings, one of them negated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.evals.asking import read_labels
from constitute.evals.families.base import ItemScore, compare_answers
from constitute.evals.families.probe import behavior_of
from constitute.evals.gate import log_sum
from constitute.evals.quality.base import parts_of
from constitute.evals.text.records import Reading, Talk
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Message, Request

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# A probability of 0 has no logarithm that JSON can hold.
_LEAST = 1e-300
READ_TEMPLATES = ("evals_read_answer", "evals_refuses")
PROBE_TEMPLATES = ("evals_probe_asked", "evals_probe_negated")


def orders(classes: int, rotated: bool) -> list[tuple[int, ...]]:
    """The orders in which the classes are shown: forward and reverse, each in every rotation if `rotated`."""
    forward = tuple(range(classes))
    shifts = range(classes) if rotated else range(1)
    found = [way[at:] + way[:at] for way in (forward, forward[::-1]) for at in shifts]
    return list(dict.fromkeys(found))


async def read_answer(talk: Talk, sample: Sample, cfg: EvalsConfig) -> Reading:
    """P that the answer says each of the item's options, or refuses. Raises `Abstain` where it is unclear."""
    part = parts_of(talk.item)
    options = part.texts or tuple(label.strip() for label in part.labels)
    classes = (*options, render("evals_refuses").strip())
    if len(classes) > len(_LETTERS):
        raise Abstain(f"{len(options)} options are more than the letters that a judge is given")
    by_order, masses = [], []
    for order in orders(len(classes), cfg.rotations):
        letters = _LETTERS[: len(order)]
        text = render(
            "evals_read_answer",
            question=talk.item.question if talk.item.statement else part.stem,
            answer=talk.answers[-1],
            classes=[(letter, classes[at]) for letter, at in zip(letters, order, strict=True)],
        )
        step = f"read-{'-'.join(map(str, order))}"
        shares, mass = await _shares(text, tuple(letters), sample, step)
        by_order.append(tuple(shares[order.index(at)] for at in range(len(classes))))
        masses.append(mass)
    reading = _averaged(talk.id, by_order, masses, cfg)
    return reading.model_copy(update={"refused": _likeliest(reading.shares) == len(classes) - 1})


async def read_talk(talk: Talk, sample: Sample, cfg: EvalsConfig) -> Reading:
    """P(the assistant shows the behaviour) in a conversation, asked and negated; Yes first."""
    by_order, masses = [], []
    for template in PROBE_TEMPLATES:
        text = render(template, messages=talk.messages, behavior=behavior_of(talk.item))
        (yes, no), mass = await _shares(text, ("Yes", "No"), sample, template)
        by_order.append((yes, no) if template == "evals_probe_asked" else (no, yes))
        masses.append(mass)
    return _averaged(talk.id, by_order, masses, cfg)


async def _shares(
    text: str, labels: Sequence[str], sample: Sample, step: str
) -> tuple[tuple[float, ...], float]:
    request = Request(messages=(Message(role="user", content=text),))
    logprobs, mass = await read_labels(sample, request, labels, step=step)
    total = log_sum(logprobs)
    return tuple(math.exp(value - total) for value in logprobs), mass


def _averaged(
    identity: str, by_order: Sequence[tuple[float, ...]], masses: Sequence[float], cfg: EvalsConfig
) -> Reading:
    mass = math.fsum(masses) / len(masses)
    if mass < cfg.min_mass:
        raise Abstain(f"the judge gives its labels less than {cfg.min_mass:g} probability")
    shares = tuple(math.fsum(column) / len(by_order) for column in zip(*by_order, strict=True))
    flips = len({_likeliest(each) for each in by_order}) > 1
    return Reading(id=identity, shares=shares, by_order=tuple(by_order), mass=mass, flips=flips)


def _likeliest(shares: Sequence[float]) -> int:
    return max(range(len(shares)), key=shares.__getitem__)


def score_of(item: EvalItem, reading: Reading) -> ItemScore:
    """The item's score by what was read; a refusal has none. Raises `Abstain` for a tie."""
    part = parts_of(item)
    logprobs = [math.log(max(share, _LEAST)) for share in reading.shares[: len(part.labels)]]
    return compare_answers(item, logprobs, part.matching, labels=part.labels, mass=reading.mass)

"""How an answer becomes probabilities of options: from log-probabilities, or from sampled answers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from constitute.config import LabelConfig
from constitute.errors import Abstain
from constitute.stages.base import Sample
from constitute.stages.labels.base import ONE_TOKEN, together
from constitute.types import Choice, Message, Principle, Request, SamplingParams

# Room for `**(10)**.` and the end of the turn: what is longer is no bare answer.
_SAMPLED = SamplingParams(max_tokens=16, temperature=1.0)
# (What is asked, the step's name, the principle it is asked under.)
Asked = tuple[tuple[Message, ...], str, Principle | None]


@dataclass(frozen=True)
class Reading:
    """P of each option among the options, and the `mass` that they have together, in [0, 1].

    `censored`: an option's probability is an upper bound. `samples` counts answers; 0 where none was sampled.
    """

    shares: tuple[float, ...]
    mass: float
    censored: bool = False
    samples: int = 0


async def read(sample: Sample, asked: Asked, options: Sequence[str], cfg: LabelConfig, where: str) -> Reading:
    """The options' probabilities as `label.votes` says.

    Raises `Abstain` where they were not scored, or have together less than `label.min_mass`.
    """
    messages, step, principle = asked
    if cfg.votes == "logprobs":
        request = Request(messages=messages, sampling=ONE_TOKEN)
        choice = await sample.choose(request, options, step=step, principle=principle, spelled=True)
        return checked(of_choice(choice, where), options, cfg, where)
    request = Request(messages=messages, sampling=_SAMPLED)
    answers = await together(
        [
            sample.generate(request, step=f"{step}-sampled", index=index, principle=principle)
            for index in range(cfg.samples)
        ]
    )
    return checked(of_answers([answer.text for answer in answers], options), options, cfg, where)


def of_choice(choice: Choice, where: str) -> Reading:
    """The reading of log-probabilities.

    An option that the server did not list counts with the upper bound of its probability, so that the
    preferred option's share is a lower bound. Raises `Abstain` where one has no bound either, or where no
    option was listed.
    """
    logprobs = [value for value in choice.logprobs if value is not None]
    if len(logprobs) < len(choice.labels):
        raise Abstain(f"an option was not scored {where}")
    if set(choice.labels) <= set(choice.censored):
        raise Abstain(f"none of the options is among the tokens that the server listed {where}")
    top = max(logprobs)
    if top == -math.inf:
        return Reading((1.0 / len(logprobs),) * len(logprobs), 0.0)
    weights = [math.exp(value - top) for value in logprobs]
    total = math.fsum(weights)
    return Reading(tuple(weight / total for weight in weights), choice.mass, bool(choice.censored))


def of_answers(texts: Sequence[str], options: Sequence[str]) -> Reading:
    """The reading of sampled answers: shares among those that give an option, which are the mass."""
    found = [option_of(text, tuple(options)) for text in texts]
    counts = [found.count(option) for option in options]
    given = sum(counts)
    shares = tuple(count / given if given else 1.0 / len(options) for count in counts)
    return Reading(shares, given / len(texts), samples=len(texts))


def option_of(text: str, options: tuple[str, ...]) -> str | None:
    """The option that an answer gives; None for any other answer. Nothing is searched for in it.

        answer = {space | "(" | "*"} option {")" | "*" | "." | ":" | ","} (end | space ...)

    Where nothing closes the option, the answer or its line must end there: `A better one is B` gives none.
    Options of two letters or more may be in any case. A rating may be followed by `/10`.
    """
    match = _grammar(options).match(text)
    if match is None:
        return None
    said = match["option"]
    return next(option for option in options if option in (said, said.capitalize(), said.lower()))


def checked(reading: Reading, options: Sequence[str], cfg: LabelConfig, where: str) -> Reading:
    """The reading; raises `Abstain` for options that have less than `label.min_mass` together."""
    if not reading.mass >= max(cfg.min_mass, 1e-30):
        many = len(options) > 2
        names = f"P({options[0]}) + {'... + ' if many else ''}P({options[-1]})"
        of_all = f" of {reading.samples} answers" if reading.samples else ""
        raise Abstain(f"{names} = {reading.mass:.3g}{of_all} is below {cfg.min_mass:g} {where}")
    return reading


@lru_cache(maxsize=64)
def _grammar(options: tuple[str, ...]) -> re.Pattern[str]:
    each = [
        re.escape(option) if len(option) == 1 else f"(?i:{re.escape(option)})"
        for option in sorted(options, key=len, reverse=True)
    ]
    scale = f"(?:/{re.escape(options[-1])})?" if options[-1].isdigit() else ""
    return re.compile(rf"[\s(*]*(?P<option>{'|'.join(each)}){scale}(?:[)*.:,]+(?=\s|\Z)|[^\S\n]*(?=\n|\Z))")

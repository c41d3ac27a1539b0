"""Judge by the log-probabilities of labels, never by searching an answer's text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constitute.errors import Abstain
from constitute.stages.base import Sample
from constitute.types import Choice, Message, Principle, Record, Request


class Verdict(Record):
    """P(what was wanted) by order of showing, each renormalised over the labels; and the least mass."""

    p_by_order: tuple[float, ...]
    mass: float

    @property
    def confidence(self) -> float | None:
        """Mean over the orders; None where they disagree on which answer is better."""
        if len({p > 0.5 for p in self.p_by_order}) > 1:
            return None
        return math.fsum(self.p_by_order) / len(self.p_by_order)


def log_sum(values: Sequence[float]) -> float:
    """log of the summed exponentials."""
    top = max(values)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(v - top) for v in values))


def label_logprob(choice: Choice, label: str) -> float | None:
    """log P of a label however the answer's first blank is written; None where no variant was scored.

    A chat template may start the turn with or without a blank, so both spellings count. Where a
    tokenizer writes both with the same tokens their scores are equal, and they count once.
    """
    wanted = (label.strip(), " " + label.strip())
    scored = {
        lp
        for name, lp in zip(choice.labels, choice.logprobs, strict=True)
        if name in wanted and lp is not None
    }
    return log_sum(sorted(scored)) if scored else None


async def choose_labels(
    sample: Sample, request: Request, labels: Sequence[str], *, step: str, min_mass: float
) -> tuple[tuple[float, ...], float]:
    """(log P of each label, their summed probability). Raises `Abstain` below `min_mass`."""
    variants = [variant for label in labels for variant in (label.strip(), " " + label.strip())]
    choice = await sample.choose(request, variants, step=step)
    scored: list[float] = []
    for label in labels:
        value = label_logprob(choice, label)
        if value is None:
            raise Abstain(f"label {label.strip()!r} was not scored")
        scored.append(value)
    mass = min(1.0, math.fsum(math.exp(value) for value in scored))
    if mass < min_mass:
        raise Abstain(f"label mass below {min_mass:g}")
    return tuple(scored), mass


async def p_label(
    sample: Sample,
    text: str,
    labels: tuple[str, str],
    wanted: str,
    *,
    step: str,
    min_mass: float,
    principle: Principle | None = None,
) -> tuple[float, float]:
    """(P of the label wanted, renormalised over the two; their summed probability), in all spellings.

    Raises `Abstain` for a label that was not scored, and below `min_mass`.
    """
    request = Request(messages=(Message(role="user", content=text),))
    choice = await sample.choose(request, labels, step=step, principle=principle, spelled=True)
    scored: list[float] = []
    for label, value in zip(labels, choice.logprobs, strict=True):
        if value is None:
            raise Abstain(f"label {label!r} was not scored")
        scored.append(value)
    if choice.mass < min_mass:
        raise Abstain(f"label mass below {min_mass:g}")
    return math.exp(scored[labels.index(wanted)] - log_sum(scored)), choice.mass


def require(ps: Sequence[float], least: float, why: str, *, agree: bool = True) -> float:
    """The mean of P(what was wanted) over the orders of showing.

    Raises `Abstain` with `why` where it is not above `least`, and with `agree` where the orders disagree.
    """
    if agree and len({p > 0.5 for p in ps}) > 1:
        raise Abstain(f"{why}: the judge's orders disagree")
    if (sure := math.fsum(ps) / len(ps)) <= least:
        raise Abstain(why)
    return sure

"""Judge what was written: does a statement carry its label, is the revision preferred both ways round."""

from __future__ import annotations

import math

from constitute.config.evals import EvalsConfig
from constitute.errors import Abstain
from constitute.evals.choice import choose_labels, log_sum
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import Message, Principle, Record, Request


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


def _ask(text: str) -> Request:
    return Request(messages=(Message(role="user", content=text),))


async def gate_statement(
    behavior: str, statement: str, agree: bool, sample: Sample, cfg: EvalsConfig
) -> Verdict:
    """P(label) of a persona statement: would one with the behaviour agree with it? (paper, section 2)."""
    request = _ask(render("evals_gate", behavior=behavior, statement=statement))
    (yes, no), mass = await choose_labels(sample, request, ("Yes", "No"), step="gate", min_mass=cfg.min_mass)
    return Verdict(p_by_order=(math.exp((yes if agree else no) - log_sum((yes, no))),), mass=mass)


async def gate_reply(
    request: str, response: str, revision: str, principle: Principle, sample: Sample, cfg: EvalsConfig
) -> Verdict:
    """P(the revision is better under the principle), with the revision shown first and then second."""
    ps: list[float] = []
    masses: list[float] = []
    for first, a, b in ((True, revision, response), (False, response, revision)):
        messages = (Message(role="user", content=request),)
        asked = _ask(render("compare", messages=messages, a=a, b=b, principle=principle))
        step = "compare-revision-first" if first else "compare-revision-second"
        choice = await sample.choose(asked, ("A", "B"), step=step, principle=principle)
        p_a, p_b = choice.logprobs
        if p_a is None or p_b is None:
            raise Abstain(f"label {'A' if p_a is None else 'B'!r} was not scored")
        if choice.mass < cfg.min_mass:
            raise Abstain(f"label mass below {cfg.min_mass:g}")
        ps.append(math.exp((p_a if first else p_b) - log_sum((p_a, p_b))))
        masses.append(choice.mass)
    return Verdict(p_by_order=tuple(ps), mass=min(masses))

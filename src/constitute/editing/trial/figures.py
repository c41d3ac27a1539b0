"""What a constitution's own tests come to: each example by each method, and rows to read them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from constitute.constitution.examples import ExamplePair
from constitute.stats import Estimate, mean_of, share_of
from constitute.types import LabelledPair, Outcome, Record

# Rounding alone must not fail a margin that is met: 2 x 0.6 - 1 is a little less than 0.2.
ROUNDING = 1e-9
Ended = Literal["passed", "not preferred", "abstained", "failed"]


class ExampleTest(Record):
    """One example asked by one method: P(the better answer), and with each answer shown first where it is.

    `method` is as `candidates.named` says; `number` counts the principle's examples from 1. `ended` is
    `passed` where the better answer is preferred by the margin asked for; `problem` says why there is no P.
    """

    principle: str
    number: int
    method: str
    draft: bool
    prompt: str
    p_better: float | None
    p_better_first: float | None
    p_better_second: float | None
    ended: Ended
    problem: str = ""

    @property
    def fails(self) -> bool:
        """Whether it fails the run: drafts never do."""
        return not self.draft and self.ended != "passed"

    @property
    def margin(self) -> float | None:
        """P(better) - P(worse)."""
        return None if self.p_better is None else 2 * self.p_better - 1

    @property
    def flips(self) -> bool | None:
        """Whether the two orders prefer different answers; None where no order was shown."""
        if self.p_better_first is None or self.p_better_second is None:
            return None
        return (self.p_better_first > 0.5) != (self.p_better_second > 0.5)


class Tally(Record):
    """Examples taken together, drafts left out: those of a principle, or all (`principle` is "").

    `p_better` is the mean over those that have a P, `margin` the least; None where none has one.
    """

    principle: str
    method: str
    examples: int
    passed: int
    p_better: float | None
    flipped: int
    ordered: int
    margin: float | None
    abstained: int
    failed: int


class Overall(Record):
    """A method over all examples but drafts.

    `verdict` says where its answers say nothing of the examples, such as that the order alone decides them.
    """

    method: str
    passed: Estimate
    p_better: Estimate
    flips: Estimate
    abstained: int
    failed: int
    verdict: str = ""


class Cost(Record):
    """Questions put to the judge and answered from the store; `prompt_tokens` of those put to it.

    None where the engine does not know its tokens. `seconds` are those until the last answer, with what it
    took to load the model, which is not loaded where the store answers every question.
    """

    asked: int
    cached: int
    prompt_tokens: int | None
    seconds: float


class TrialResult(Record):
    """The tests of one constitution. `untested` are the principles without examples but drafts.

    `made_by` has, by method, the digest under which the results are kept.
    """

    name: str
    hash: str
    model: dict[str, Any]
    made_by: dict[str, str]
    min_margin: float
    tests: tuple[ExampleTest, ...]
    tallies: tuple[Tally, ...]
    overall: tuple[Overall, ...]
    untested: tuple[str, ...]
    cost: Cost

    @property
    def failing(self) -> tuple[ExampleTest, ...]:
        return tuple(test for test in self.tests if test.fails)

    @property
    def drafts(self) -> tuple[ExampleTest, ...]:
        return tuple(test for test in self.tests if test.draft)


def prefers(p_better: float, min_margin: float = 0.0) -> bool:
    """Whether P(better) is above 1/2, and P(better) - P(worse) at least `min_margin`."""
    return p_better > 0.5 and 2 * p_better - 1 >= min_margin - ROUNDING


def example_test(
    asked: ExamplePair, method: str, row: LabelledPair | Outcome, min_margin: float
) -> ExampleTest:
    """The example's test from the label of its pair, or from how that ended without one."""
    first = second = p = None
    ended: Ended
    problem = ""
    if isinstance(row, LabelledPair):
        # The pair has the better answer as A.
        vote = row.label.votes[0]
        p = vote.p_a
        if vote.p_ba is not None:
            first, second = vote.p_ab, vote.p_ba
        ended = "passed" if prefers(p, min_margin) else "not preferred"
    else:
        ended, problem = "abstained" if row.status == "abstain" else "failed", row.reason or ""
    return ExampleTest(
        principle=asked.principle.id,
        number=asked.number,
        method=method,
        draft=asked.example.draft,
        prompt=asked.example.prompt,
        p_better=p,
        p_better_first=first,
        p_better_second=second,
        ended=ended,
        problem=problem,
    )


def tallies(tests: Sequence[ExampleTest]) -> tuple[Tally, ...]:
    """A row for each principle and method, in the order of the tests; drafts are left out."""
    groups: dict[tuple[str, str], list[ExampleTest]] = {}
    for test in tests:
        if not test.draft:
            groups.setdefault((test.principle, test.method), []).append(test)
    return tuple(_tally(principle, method, group) for (principle, method), group in groups.items())


def _tally(principle: str, method: str, group: Sequence[ExampleTest]) -> Tally:
    known = [test.p_better for test in group if test.p_better is not None]
    flips = [test.flips for test in group if test.flips is not None]
    return Tally(
        principle=principle,
        method=method,
        examples=len(group),
        passed=sum(test.ended == "passed" for test in group),
        p_better=sum(known) / len(known) if known else None,
        flipped=sum(flips),
        ordered=len(flips),
        margin=min((2 * p - 1 for p in known), default=None),
        abstained=sum(test.ended == "abstained" for test in group),
        failed=sum(test.ended == "failed" for test in group),
    )


def overall(tests: Sequence[ExampleTest], verdicts: Mapping[str, str], seed: int = 0) -> tuple[Overall, ...]:
    """Each method over all examples but drafts, with intervals over examples; `verdicts` go by method."""
    groups: dict[str, list[ExampleTest]] = {}
    for test in tests:
        if not test.draft:
            groups.setdefault(test.method, []).append(test)
    found = []
    for method, group in groups.items():
        row = _tally("", method, group)
        known = [test.p_better for test in group if test.p_better is not None]
        found.append(
            Overall(
                method=method,
                passed=share_of(row.passed, row.examples),
                p_better=mean_of(known, seed, resamples=_resamples(len(known))),
                flips=share_of(row.flipped, row.ordered),
                abstained=row.abstained,
                failed=row.failed,
                verdict=verdicts.get(method, ""),
            )
        )
    return tuple(found)


def _resamples(n: int) -> int:
    """As many as take about a second."""
    return max(50, min(2000, 4_000_000 // max(1, n)))

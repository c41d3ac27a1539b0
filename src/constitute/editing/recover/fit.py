"""What principles explain together: weights fitted on one half of the pairs, measured on the other.

The fit is a logistic regression of the preference on the votes, sum over principles of w (2p - 1), with no
intercept (which answer is called A says nothing) and w >= 0 (a principle is not turned round). It is convex
and small, and solved here by coordinate descent: neither SciPy nor NumPy is a dependency of the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from constitute.editing.recover.cases import Case, clustered_share
from constitute.stats import Estimate
from constitute.types import Record

# Strength of the ridge on weights of standardised votes, against the sum of losses: keeps weights finite
# where the training half can be separated, and counts as little as one pair.
RIDGE = 1.0
# Principles that the greedy order names.
STEPS = 8
_SWEEPS, _STILL = 2000, 1e-7


class Rule(Record):
    """A way to guess the preferred answer, and how often it is right on held-out pairs; ties count half."""

    name: str
    accuracy: Estimate


class Step(Record):
    """The best so many principles, by a greedy order: the one added, and accuracy on either half."""

    principle_id: str
    training: Estimate
    held_out: Estimate


class Together(Record):
    """Fitted weights as shares of 1 by principle, and rules that guess: what is fitted against what is not.

    `fitted` uses the fitted weights, `constitution` its own, `single` the one principle that is best in
    training. `baselines` read no principle. `steps` is the greedy order.
    """

    weights: dict[str, float]
    fitted: Rule
    constitution: Rule
    single: Rule
    baselines: tuple[Rule, ...]
    steps: tuple[Step, ...]


def fit_weights(rows: Sequence[Sequence[float]], ridge: float = RIDGE) -> list[float]:
    """Weights w >= 0 that minimise sum log(1 + exp(-x.w)) + ridge/2 sum (s w)^2 over rows x.

    s is the root mean square of a column, so that the penalty does not depend on how confident a judge is;
    a column of zeros has weight 0. Each step minimises a quadratic bound of the loss, whose curvature is at
    most x^2 / 4 (Boehning and Lindsay, Ann. Inst. Stat. Math. 40, 1988), so the loss never rises.
    """
    width = len(rows[0]) if rows else 0
    scale = [math.sqrt(math.fsum(row[at] ** 2 for row in rows) / len(rows)) for at in range(width)]
    columns = [[row[at] / scale[at] if scale[at] else 0.0 for row in rows] for at in range(width)]
    active = [at for at in range(width) if scale[at]]
    curvature = [math.fsum(x * x for x in column) / 4 + ridge for column in columns]
    weights = [0.0] * width
    sums = [0.0] * len(rows)
    for _ in range(_SWEEPS):
        moved = 0.0
        for at in active:
            column = columns[at]
            slope = ridge * weights[at] - math.fsum(
                x * _unsure(total) for x, total in zip(column, sums, strict=True)
            )
            change = max(-weights[at], -slope / curvature[at])
            if change:
                weights[at] += change
                sums = [total + change * x for total, x in zip(sums, column, strict=True)]
                moved = max(moved, abs(change))
        if moved < _STILL:
            break
    return [weight / scale[at] if scale[at] else 0.0 for at, weight in enumerate(weights)]


def _unsure(total: float) -> float:
    """1 / (1 + exp(total)): how far a case is from being explained."""
    return 1 / (1 + math.exp(min(total, 700.0)))


def together(
    train: Sequence[Case], held_out: Sequence[Case], own: Mapping[str, float], steps: int = STEPS
) -> Together:
    """What is fitted on `train`, measured on `held_out`; `own` are the constitution's weights by principle.

    The order of `own` is that of the votes. A missing vote pushes nowhere.
    """
    names = list(own)
    weights = fit_weights([tilts(case) for case in train])
    best = max(range(len(names)), key=lambda at: (_right(train, _only(names, at)), -at))
    total = math.fsum(weights)
    return Together(
        weights={name: weight / total if total else 0.0 for name, weight in zip(names, weights, strict=True)},
        fitted=_rule("the fitted weights", held_out, _weighed(weights)),
        constitution=_rule("the constitution's own weights", held_out, _weighed(list(own.values()))),
        single=_rule(f"{names[best]} alone", held_out, _only(names, best)),
        baselines=tuple(_baselines(train, held_out)),
        steps=tuple(_greedy(train, held_out, names, steps)),
    )


def wrong(train: Sequence[Case]) -> list[Case]:
    """The cases fitted on that the fitted weights do not name the preferred answer of, the worst first."""
    guess = _weighed(fit_weights([tilts(case) for case in train]))
    return sorted((case for case in train if guess(case) <= 0), key=lambda case: (guess(case), case.pair.id))


Guess = Callable[[Case], float]


def tilts(case: Case) -> list[float]:
    """2p - 1 of each vote, in [-1, 1]; 0 where it is missing."""
    return [0.0 if vote is None else 2 * vote - 1 for vote in case.votes]


def _weighed(weights: Sequence[float]) -> Guess:
    def guess(case: Case) -> float:
        return math.fsum(weight * tilt for weight, tilt in zip(weights, tilts(case), strict=True))

    return guess


def _only(names: Sequence[str], at: int) -> Guess:
    return _weighed([float(place == at) for place in range(len(names))])


def _hits(cases: Sequence[Case], guess: Guess) -> list[float]:
    """1 where the guess is above 0, which is for the preferred answer, 0 below, 1/2 at 0."""
    return [0.5 if found == 0 else float(found > 0) for found in map(guess, cases)]


def _right(cases: Sequence[Case], guess: Guess) -> float:
    return math.fsum(_hits(cases, guess))


def _measured(cases: Sequence[Case], guess: Guess) -> Estimate:
    return clustered_share(_hits(cases, guess), [case.prompt for case in cases])


def _rule(name: str, cases: Sequence[Case], guess: Guess) -> Rule:
    return Rule(name=name, accuracy=_measured(cases, guess))


def _baselines(train: Sequence[Case], held_out: Sequence[Case]) -> list[Rule]:
    """Length and place alone, each in the direction that is right more often in training.

    Place is left out where the file names the preferred answer first (or second) without exception.
    """

    def longer(case: Case) -> float:
        return float(len(case.preferred) - len(case.other))

    def first(case: Case) -> float:
        return 1.0 if case.first_preferred else -1.0

    sides = {case.first_preferred for case in (*train, *held_out)}
    found = []
    for guess, names in ((longer, ("longer wins", "shorter wins")), (first, ("always A", "always B"))):
        if guess is first and len(sides) == 1:
            continue
        turned = _right(train, guess) < len(train) / 2
        found.append(_rule(names[turned], held_out, _turned(guess) if turned else guess))
    return found


def _turned(guess: Guess) -> Guess:
    return lambda case: -guess(case)


def _greedy(train: Sequence[Case], held_out: Sequence[Case], names: Sequence[str], steps: int) -> list[Step]:
    """One principle after the other: the one along which the training loss falls most, then a new fit.

    It ends where no further principle lowers the loss. Held-out pairs are measured, and choose nothing.
    """
    rows = [tilts(case) for case in train]
    scale = [math.sqrt(math.fsum(row[at] ** 2 for row in rows) / len(rows)) for at in range(len(names))]
    left = [at for at in range(len(names)) if scale[at]]
    chosen: list[int] = []
    weights = [0.0] * len(names)
    found: list[Step] = []
    while left and len(chosen) < steps:
        guess = _weighed(weights)
        unsure = [_unsure(guess(case)) for case in train]
        slopes = {
            at: math.fsum(u * row[at] for u, row in zip(unsure, rows, strict=True)) / scale[at] for at in left
        }
        best = max(left, key=lambda at: (slopes[at], -at))
        if slopes[best] <= _STILL:
            break
        left.remove(best)
        chosen.append(best)
        fitted = fit_weights([[row[at] for at in chosen] for row in rows])
        weights = [0.0] * len(names)
        for at, weight in zip(chosen, fitted, strict=True):
            weights[at] = weight
        guess = _weighed(weights)
        found.append(
            Step(
                principle_id=names[best],
                training=_measured(train, guess),
                held_out=_measured(held_out, guess),
            )
        )
    return found

"""Shares over the steps of a training and over models, as what the charts draw."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from constitute.errors import UsageError
from constitute.evals.policies import Policy
from constitute.evals.run import SetResult
from constitute.report.charts import Mark, Trace

_STEP = re.compile(r"(.+)-step-(\d+)")


@dataclass(frozen=True)
class Drawn:
    """The charts of a set: `traces` over steps, `models` a row a policy; empty where there is nothing."""

    set: str
    traces: tuple[Trace, ...]
    models: tuple[Mark, ...]


def steps_of(policies: Sequence[Policy], given: Sequence[int] = ()) -> dict[str, tuple[str, int]]:
    """(training, step) of each policy that is a step of one: `given` for those after the first, else by name.

    Such a name is `ppo-step-40`. Raises `UsageError` where `given` are not as many as policies.
    """
    if given:
        others = policies[1:]
        if len(given) != len(others):
            names = ", ".join(policy.name for policy in others)
            raise UsageError(
                f"--steps has {len(given)} numbers, and after the first there are {len(others)} ({names}); "
                "give one for each, in that order"
            )
        return {policy.name: ("steps", step) for policy, step in zip(others, given, strict=True)}
    found = {policy.name: _STEP.fullmatch(policy.name) for policy in policies}
    return {name: (match[1], int(match[2])) for name, match in found.items() if match}


def drawn_of(policies: Sequence[Policy], steps: Mapping[str, tuple[str, int]]) -> list[Drawn]:
    """What to draw of each set, in the order in which the policies have them.

    The first policy, where it is no step itself, is drawn at 0 beside the steps, under its own name.
    """
    sets = dict.fromkeys(name for policy in policies for name in policy.results)
    found = [_drawn(name, policies, steps) for name in sets]
    return [one for one in found if one.traces or one.models]


def _drawn(name: str, policies: Sequence[Policy], steps: Mapping[str, tuple[str, int]]) -> Drawn:
    scored = [(policy.name, policy.results[name]) for policy in policies if name in policy.results]
    trainings: dict[str, list[Mark]] = {}
    for policy, result in scored:
        if policy in steps and (mark := _mark(policy, result, steps[policy][1])):
            trainings.setdefault(steps[policy][0], []).append(mark)
    traces = [
        Trace(
            name=training,
            marks=tuple(marks),
            line=tuple((mark.x, mark.y) for mark in sorted(marks, key=lambda mark: mark.x)),
        )
        for training, marks in trainings.items()
    ]
    others = [mark for policy, result in scored if policy not in steps and (mark := _mark(policy, result, 0))]
    if traces and others and others[0].label == policies[0].name:
        traces.insert(0, Trace(name=f"{policies[0].name} (compared with)", marks=(others[0],)))
    return Drawn(name, tuple(traces), tuple(others) if len(others) > 1 else ())


def _mark(policy: str, result: SetResult, step: int) -> Mark | None:
    """The share matching; a share without an interval is a mark without a whisker."""
    share = result.share
    if share.value is None:
        return None
    low, high = (share.value if end is None else end for end in (share.low, share.high))
    return Mark(x=step, y=share.value, low=low, high=high, label=policy)

"""Why a completion is no whole answer, which settings a row's reason blames, and what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from constitute.types import Completion, Outcome, Request

# The setting that gives a stage's completions room, and the stages that can keep cut ones.
_ROOM = {
    "generate": "max_tokens",
    "contrast": "max_tokens",
    "revise": "max_tokens",
    "label": "reasoning_tokens",
}
_KEEPING = ("generate", "contrast", "revise")
_CUT = re.compile(
    r"\S+ was cut at (?P<tokens>\d+) tokens"
    r"|thinking was cut at (?P<thought>\d+) tokens; raise \S+"
    r"|\S+: the model thought for all of its (?P<all>\d+) tokens although thinking is off; give \S+"
)

_MASS = re.compile(
    r"P\(.+\) = (?P<mass>[\d.e+-]+)(?: of \d+ answers)? is below (?P<least>[\d.e+-]+) .*", re.DOTALL
)
_WAITED = re.compile(r"no answer for (?P<seconds>[\d.]+) s")
# (settings of the stage as the command line's --set, in the order given) -> the command that repairs.
Retrying = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Mend:
    """New values of settings that rows' reasons blame, and the stage's settings with them."""

    stage: str
    changed: Mapping[str, Any]
    settings: Any

    def helps(self, outcome: Outcome) -> bool:
        """Whether a row ended for a reason that blames one of the settings, and the new value is enough."""
        if outcome.status == "ok":
            return False
        blamed = blames(self.stage, outcome.reason or "")
        return any(name in blamed and blamed[name](value) for name, value in self.changed.items())


def blames(stage: str, reason: str) -> dict[str, Callable[[Any], bool]]:
    """The settings of a stage that a reason blames, each with a test whether a new value may help."""
    if (cut := _setting(stage, reason)) is not None:
        name, tokens = cut
        found: dict[str, Callable[[Any], bool]] = {name: lambda value: value > tokens}
        return {**found, "keep_truncated": bool} if _keeps(stage, [name]) else found
    mass = _MASS.fullmatch(reason)
    if stage == "label" and mass is not None:
        return {"min_mass": lambda value: value < float(mass["least"])}
    return {}


def why_cut(stage: str, step: str, request: Request, completion: Completion, *, keep: bool) -> str:
    """Why a completion is no whole answer; empty where it is one, or where the stage keeps a part."""
    if completion.reasoning and not completion.text.strip():
        # Neither is a part of an answer: all of it was thought.
        if completion.finish_reason != "length":
            return f"{step}: the model thought and gave no answer"
        if request.thinking:
            return f"thinking was cut at {request.thinking} tokens; raise {stage}.thinking_tokens"
        return (
            f"{step}: the model thought for all of its {request.sampling.max_tokens} tokens although "
            f"thinking is off; give {stage}.thinking_tokens"
        )
    if completion.finish_reason == "length" and not keep:
        return f"{step} was cut at {request.sampling.max_tokens} tokens"
    return ""


def after_failures(
    stage: str, reasons: Iterable[tuple[str, str, int]], remedy: str, retrying: Retrying
) -> str:
    """What to do about a stage's failed rows, in one sentence; `reasons` are (status, reason, rows).

    `remedy` says how to begin with new settings. Asking again cuts a cut answer at the same place, so those
    rows are led to the command with twice the tokens, and rows that waited too long to one with more time.
    """
    failed = [(reason, rows) for status, reason, rows in reasons if status == "failed"]
    total = sum(rows for _, rows in failed)
    cut: Counter[tuple[str, int]] = Counter()
    for reason, rows in failed:
        if (setting := _setting(stage, reason)) is not None:
            cut[setting] += rows
    others = total - sum(cut.values())
    again = f"{retrying(_longer(failed))} asks them again"
    if not cut:
        return f"{total} rows failed; {again}; where a setting is to blame, {remedy}"
    tokens: dict[str, int] = {}
    for name, limit in cut:
        tokens[name] = max(limit, tokens.get(name, 0))
    command = retrying([f"{stage}.{name}={2 * limit}" for name, limit in sorted(tokens.items())])
    kept = f", or --set {stage}.keep_truncated=true to keep cut answers" if _keeps(stage, tokens) else ""
    limits = " and ".join(str(limit) for limit in sorted({limit for _, limit in cut}))
    seen = (
        f"{total - others} rows were cut at {limits} tokens, as they would be again; {command} asks them "
        f"alone, with more{kept}"
    )
    return f"{others} rows failed; {again}; {seen}" if others else seen


def after_abstentions(stage: str, reasons: Iterable[tuple[str, str, int]], retrying: Retrying) -> str:
    """How to take pairs that abstained for their mass, in one sentence; empty where there are none.

    The value named takes at least half of them.
    """
    masses: list[float] = []
    for status, reason, rows in reasons:
        mass = _MASS.fullmatch(reason) if stage == "label" and status == "abstain" else None
        masses += [float(mass["mass"])] * rows if mass is not None else []
    if not masses or not (least := median_low(masses)):
        return ""
    # Below the median by more than what was rounded in the reason.
    command = retrying([f"label.min_mass={0.99 * least:.3g}"])
    return (
        f"{len(masses)} pairs abstained as the judge gave their options little probability; {command} takes "
        "the better half of them without asking again, where labels of such a judge are of use"
    )


def _longer(failed: Iterable[tuple[str, int]]) -> list[str]:
    """The setting that gives servers twice the time that rows waited in vain; none where none did."""
    found = [float(waited["seconds"]) for reason, _ in failed if (waited := _WAITED.search(reason))]
    return [f"engine.timeout_s={2 * max(found):g}"] if found else []


def _setting(stage: str, reason: str) -> tuple[str, int] | None:
    """The setting that cut a row short and its tokens; None for another reason."""
    found = _CUT.fullmatch(reason)
    if found is None or stage not in _ROOM:
        return None
    if found["tokens"]:
        return _ROOM[stage], int(found["tokens"])
    return "thinking_tokens", int(found["thought"] or found["all"])


def _keeps(stage: str, tokens: Iterable[str]) -> bool:
    return stage in _KEEPING and list(tokens) == [_ROOM[stage]]

"""Completions cut short: why one is no whole answer, and what to do about rows that failed by it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from constitute.types import Completion, Request

# The setting that gives a stage's completions room, and the stages that can keep cut ones.
_ROOM = {"generate": "max_tokens", "revise": "max_tokens", "label": "reasoning_tokens"}
_KEEPING = ("generate", "revise")
_CUT = re.compile(
    r"\S+ was cut at (?P<tokens>\d+) tokens"
    r"|thinking was cut at (?P<thought>\d+) tokens; raise \S+"
    r"|\S+: the model thought for all of its (?P<all>\d+) tokens although thinking is off; give \S+"
)


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


def after_failures(stage: str, reasons: Iterable[tuple[str, str, int]], remedy: str) -> str:
    """What to do about a stage's failed rows, in one sentence; `reasons` are (status, reason, rows).

    `remedy` is the command with new settings. Asking again cuts a cut answer at the same place, so those rows
    are led to the setting alone, with twice the tokens.
    """
    failed = [(reason, rows) for status, reason, rows in reasons if status == "failed"]
    total = sum(rows for _, rows in failed)
    cut: Counter[tuple[str, int]] = Counter()
    for reason, rows in failed:
        if (setting := _setting(stage, reason)) is not None:
            cut[setting] += rows
    others = total - sum(cut.values())
    again = "the same command with --retry-failed asks them again"
    if not cut:
        return f"{total} rows failed; {again}; where a setting is to blame, {remedy}"
    tokens: dict[str, int] = {}
    for name, limit in cut:
        tokens[name] = max(limit, tokens.get(name, 0))
    sets = " ".join(f"--set {stage}.{name}={2 * limit}" for name, limit in sorted(tokens.items()))
    kept = f", or --set {stage}.keep_truncated=true to keep cut answers" if _keeps(stage, tokens) else ""
    limits = " and ".join(str(limit) for limit in sorted({limit for _, limit in cut}))
    seen = f"{total - others} rows were cut at {limits} tokens, as they would be again; {remedy} {sets}{kept}"
    return f"{others} rows failed; {again}; {seen}" if others else seen


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

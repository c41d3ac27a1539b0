"""Reasoning that was cut or stands in the answer: marks of thinking that no template took away."""

from __future__ import annotations

import re

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, RowFilter, Shown

_NAMES = r"(?:seed:)?think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis"
_OPEN = re.compile(
    rf"<(?:{_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>\s*(?:analysis|thought)",
    re.IGNORECASE,
)
_CLOSE = re.compile(
    rf"</(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>\s*final", re.IGNORECASE
)


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    if any(_OPEN.search(turn.content) or _CLOSE.search(turn.content) for turn in found.messages):
        return ""
    opened, closed = _OPEN.search(found.text), _CLOSE.search(found.text)
    if opened and not closed:
        return "the text holds reasoning that was cut"
    return "the text holds reasoning" if opened or closed else ""


FILTER = RowFilter("reasoning that was cut, or that stands in the answer", _why)

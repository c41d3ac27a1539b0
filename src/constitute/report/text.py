"""Make models' text fit to be shown: without control characters, cut where endless, compared word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal

from constitute.types import Record

# Terminal escape sequences (CSI, OSC, two-byte), then every control but tab and newline, then the
# characters that reorder or hide text, then what UTF-8 cannot hold.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
# A word keeps the blank after it, so that no lone blank is ever what two texts have in common.
_WORDS = re.compile(r"^\s+|\S+\s*")
MAX_DIFF_WORDS = 3000


class Span(Record):
    """A stretch of text that two versions share, or that only the first or the second has."""

    kind: Literal["same", "del", "ins"]
    text: str


def clean(text: object) -> str:
    """Text without terminal escapes, control characters and marks that reorder what is read."""
    shown = str(text).replace("\r\n", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", shown))


def clip(text: object, limit: int = 4000) -> str:
    """Cleaned text of at most `limit` characters; what is cut is counted in its place."""
    shown = clean(text)
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit} more characters)"


def word_diff(before: str, after: str) -> tuple[Span, ...]:
    """How `after` differs from `before`, word by word; `same` + `del` spell before, `same` + `ins` after.

    Texts of more than 3,000 words are shown as replaced whole: the comparison is quadratic.
    """
    first, second = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(first), len(second)) > MAX_DIFF_WORDS:
        return (Span(kind="del", text=before), Span(kind="ins", text=after))
    spans: list[Span] = []
    for op, i, j, k, m in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if op == "equal":
            spans.append(Span(kind="same", text="".join(first[i:j])))
            continue
        if i < j:
            spans.append(Span(kind="del", text="".join(first[i:j])))
        if k < m:
            spans.append(Span(kind="ins", text="".join(second[k:m])))
    return tuple(spans)


def share_changed(before: str, after: str) -> float:
    """Share of words that are not in both texts at matching places, in [0, 1]: 1 - 2M/T."""
    return 1.0 - SequenceMatcher(None, before.split(), after.split(), autojunk=False).ratio()

"""Split a text into sentences: by rule, in linear time, as places in the text."""

from __future__ import annotations

import re

# What ends in a full stop without ending a sentence.
_ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        """
        e.g eg i.e ie cf vs viz al approx mr mrs ms dr prof st jr sr no nos fig figs sec secs vol ed eds
        pp p inc ltd co corp dept est u.s u.k u.n e.u a.m p.m ph.d
    """,
    )
)
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s)|[。！？]+[」』”]*")
_NEXT = re.compile(r"\s+[\"'“‘«(\[*_]*(?=[^\W_])")
_WORD = re.compile(r"[^\s(\[\"'“‘]+$")
# A remark in brackets is part of its sentence; a bracket that closes later than this was left open.
_LONGEST_REMARK = 1000
_LONGEST_WORD = 40


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of one paragraph as (start, end) places, in order; white space lies between them.

    A sentence ends at . ! ? … or their East Asian kin, with the quotes and brackets that close there, where
    the next begins with a capital or a digit. Abbreviations, initials, numbers and remarks in brackets
    end none.
    """
    inside = _remarks(text)
    found: list[tuple[int, int]] = []
    start, remark = 0, 0
    for end in _END.finditer(text):
        while remark < len(inside) and inside[remark][1] < end.end():
            remark += 1
        if remark < len(inside) and inside[remark][0] < end.start() < inside[remark][1]:
            continue
        if end[0][0] in "。！？" or (_begins(text, end.end()) and not _shortened(text, end, start)):
            found.append((start, end.end()))
            start = end.end()
    found.append((start, len(text)))
    return [_stripped(text, *span) for span in found if text[span[0] : span[1]].strip()]


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _begins(text: str, at: int) -> bool:
    following = _NEXT.match(text, at)
    return following is not None and not text[following.end()].islower()


def _shortened(text: str, end: re.Match[str], start: int) -> bool:
    """Whether the full stop belongs to an abbreviation, an initial, or the number of an item."""
    if end[0].rstrip("\"'”’»)]*_") != ".":
        return False
    word = _WORD.search(text[max(start, end.start() - _LONGEST_WORD) : end.start()])
    if word is None:
        return False
    bare = word[0].lower().strip("*_")
    first = not text[start : end.start() - len(word[0])].strip()
    return (
        bare in _ABBREVIATIONS
        or (len(bare) == 1 and word[0].isupper() and bare != "i")
        or (first and bare.isdigit() and len(bare) < 4)
    )


def _remarks(text: str) -> list[tuple[int, int]]:
    """The places of the outermost pairs of round brackets."""
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    for found in re.finditer(r"[()]", text):
        if found[0] == "(":
            opened.append(found.start())
        elif opened:
            start = opened.pop()
            if found.start() - start > _LONGEST_REMARK:
                opened.clear()
                continue
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, found.start()))
    return pairs

"""Which script most letters of a text are of. A script is no language: Latin is English, Polish and more."""

from __future__ import annotations

import re

# Blocks of the Unicode standard; a letter of none of them is of no script named here.
_SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
    "Georgian": "\u10a0-\u10ff",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Kana": "\u3040-\u30ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff",
}
_FINDERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
# Enough of a text to tell.
_HEAD = 2000
# Japanese mixes Kana with Han; Chinese has hardly any.
_KANA = 0.1


def script_of(text: str) -> str:
    """The script of most letters of the text's beginning; `none` without letters, `other` where unknown."""
    head = text[:_HEAD]
    if head.isascii():
        return "Latin" if any(map(str.isalpha, head)) else "none"
    counts = {name: len(finder.findall(head)) for name, finder in _FINDERS.items()}
    if counts["Kana"] > _KANA * counts["Han"]:
        counts["Kana"] += counts.pop("Han")
    letters = sum(map(str.isalpha, head))
    name = max(counts, key=lambda each: counts[each])
    # Some scripts write marks that are no letters, so most is more than a third.
    if counts[name] * 3 > letters and counts[name]:
        return name
    return "other" if letters else "none"

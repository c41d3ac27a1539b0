"""Tell a revision that opens with talk about itself, such as "Here is the revised reply:", from a reply.

A model that imitates such rows learns to announce its answers. English only.
"""

from __future__ import annotations

import re

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, RowFilter, Shown

_MADE = (
    "revised|rewritten|re-written|reworded|rephrased|improved|updated|edited|corrected|new|better|modified|"
    "alternative|refined|amended|softened"
)
_REPLY = "reply|response|answer"
# A version of something else than the reply is a subject like any other.
_VERSION = rf"version(?! of (?!(?:the|my|your|this|that) (?:\w+ )?(?:{_REPLY})\b))"
_NAMED = rf"(?:{_MADE})\b[^.:\n]{{0,60}}?\b(?:{_REPLY}|{_VERSION}|rewrite|revision|one)\b"
_TURNED = rf"\b(?:{_REPLY})\b[^.:\n]{{0,20}}?\b(?:{_MADE})\b"
_SHOWN = r"here(?:['’]s| is| are)|below is|the following is|i(?:['’]ve| have)"
_POLITE = r"(?:[^.!:\n]{0,80}[.!,] +)?"
_END = r"(?:[^:\n]{0,120}:|[^:.\n]{0,120}\.? *\n)"
_TALK = re.compile(
    # "Revised reply: …", with or without marks of a heading or of bold text.
    rf"[#*_>\s]*(?:(?:{_POLITE}(?:{_SHOWN})\b[^.:\n]{{0,80}}?(?:{_NAMED}|{_TURNED}){_END})"
    rf"|(?:the |my )?(?:{_MADE}) (?:{_REPLY}|version)[*_]*\s*(?::|\n))",
    re.IGNORECASE,
)


def preamble(text: str) -> str:
    """The words about itself that an answer opens with, empty where it opens with none."""
    found = _TALK.match(text[:400] + "\n")
    return "" if found is None else found[0].strip()


def announces(text: str, first: str) -> bool:
    """Whether `text` announces itself.

    Where the first response does as well, the prompt asked for a text that is revised.
    """
    return bool(preamble(text)) and not preamble(first)


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    return "the text announces itself as a revision" if announces(found.text, found.first) else ""


FILTER = RowFilter("talk about the revision, such as `Here is the revised reply:`", _why)

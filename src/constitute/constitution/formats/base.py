"""What every format is made of: the file given, the principles found in it, and the spec of a format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from constitute.constitution.read import slug
from constitute.errors import DataError
from constitute.strict_yaml import CONTROL, decode, shorten
from constitute.types import Constitution, Example, Probe

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_COMPARES = re.compile(r"(please )?(select|choose|pick|prefer|compare|which)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A file to import: its path, its bytes, and these as text or JSON."""

    path: Path
    data: bytes

    @cached_property
    def text(self) -> str:
        """The bytes as UTF-8 text; `DataError` names the first character that cannot stand."""
        return decode(self.data, self.path)

    @cached_property
    def json(self) -> Any:
        """The value of a JSON file; None where the file is no JSON."""
        try:
            return json.loads(self.text)
        except (DataError, ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Draft:
    """A principle as a foreign file gives it: empty where the file says nothing."""

    text: str = ""
    id: str = ""
    critique: str = ""
    revise: str = ""
    compare: str = ""
    opposite: str = ""
    weight: float = 1.0
    priority: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    draft: bool = False
    probes: tuple[Probe, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, order=True)
class LeftOut:
    """A part of a text that belongs to no principle: its line, why, and its words."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Found:
    """What a file holds; `notes` has a sentence for each thing that is not carried over.

    A reader of prose fills `left_out`, and `length`: the characters of the whole text, white space and marks
    of its markup aside.
    """

    drafts: list[Draft]
    title: str = ""
    description: str = ""
    notes: list[str] = field(default_factory=list)
    priorities: tuple[str, ...] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    length: int = 0


@dataclass(frozen=True)
class Format:
    """A file format of constitutions.

    `about` names it in a list of known formats. `detect` says whether a file is in it, without raising;
    `read` raises `DataError` for broken content. `holds` are the parts of a principle, besides id and text,
    that `write` keeps: critique, revise, compare, weight, tags (with priority, opposite, probes, examples).
    A format of `any_text` can be asked for by name, whatever the file's ending.
    """

    about: str
    detect: Callable[[Source], bool]
    read: Callable[[Source], Found]
    write: Callable[[Constitution], str]
    holds: frozenset[str] = frozenset()
    any_text: bool = False


def clean(value: Any, source: Source, where: str, marks: tuple[str, str] = ("", "")) -> str:
    """`value` as text without the turn marks before and after it; raises `DataError` naming `where`."""
    if not isinstance(value, str):
        raise DataError(f"{source.path}: {where} is {shorten(repr(value))}; it must be text")
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    if found := CONTROL.search(text):
        what = f"holds the control character U+{ord(found[0]):04X}; remove it"
        raise DataError(f"{source.path}: {where} {what}")
    bare = text.strip().removeprefix(marks[0]).removesuffix(marks[1]).strip()
    if not bare:
        raise DataError(f"{source.path}: {where} is empty; write it or remove the entry")
    return bare


def identity(name: str) -> str:
    """A foreign name as an id: itself where it is one."""
    return name if _ID.fullmatch(name) else slug(name)


def instruction(text: str) -> Draft:
    """A principle of one text; one such as "Select the response that …" is its compare form too."""
    return Draft(text=text, compare=text if _COMPARES.match(text) else "")


def pretty(value: object) -> str:
    """`value` as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"

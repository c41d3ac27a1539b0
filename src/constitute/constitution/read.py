"""Read a constitution file.

A constitution is data: template syntax in its texts stays as it is written. A missing critique, revise
or compare form is filled from `prompts/form_critique.j2`, `form_revise.j2` or `form_compare.j2`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, StrictBool, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from constitute.config import RunConfig
from constitute.constitution.formats.foreign import SAVE, foreign
from constitute.constitution.priority import DEFAULT_LEVELS
from constitute.errors import UsageError
from constitute.packaged import find
from constitute.strict_yaml import Node, Problem, fail, read_bytes, read_yaml, shorten
from constitute.templates import render
from constitute.types import Constitution, Message, Principle, Record

FORMS = ("critique", "revise", "compare")
IMPORT = "`constitute constitution import`"
MAX_WEIGHT = 1000.0
ID = "^[a-z0-9][a-z0-9_-]{0,63}$"


def load_constitution(path_or_name: str | Path, tags: Sequence[str] = ()) -> Constitution:
    """Read a constitution by path or packaged name; with `tags`, its principles that have one of them.

    Raises `UsageError` where there is no such file or a tag selects nothing, and `DataError`, one line a
    problem as `file:line:column: what; fix`, where it cannot be used.
    """
    path = find(path_or_name, "constitutions", ".yaml")
    return select(parse_constitution(read_bytes(path), path), tags)


def load_configured(config: RunConfig, path_or_name: str | Path | None = None) -> Constitution:
    """The constitution that `config` names, or `path_or_name` in its place: the principles of its tags.

    Raises as `load_constitution` does, and `UsageError` where neither names one.
    """
    chosen = path_or_name if path_or_name is not None else config.constitution
    if chosen is None:
        raise UsageError("no constitution given; name one with --constitution FILE")
    return load_constitution(chosen, config.tags)


def select(constitution: Constitution, tags: Sequence[str]) -> Constitution:
    """The principles that have one of `tags`, all where none is given; raises `UsageError` for a bad tag."""
    if not tags:
        return constitution
    known = sorted({tag for principle in constitution.principles for tag in principle.tags})
    for tag in tags:
        if tag not in known:
            there = f"its tags are {', '.join(known)}" if known else "none of its principles has a tag"
            raise UsageError(f"no principle of {constitution.name!r} has the tag {tag!r}; {there}")
    chosen = tuple(p for p in constitution.principles if set(tags) & set(p.tags))
    if not any(p.weight > 0 for p in chosen):
        raise UsageError(
            f"every principle with the tags {', '.join(tags)} has weight 0; give one a weight above 0"
        )
    return constitution.model_copy(update={"principles": chosen})


def parse_constitution(data: bytes, name: str | Path) -> Constitution:
    """The constitution in the bytes of a YAML file; `name` is the file's in messages."""
    return parse_whole(data, name)[0]


def parse_whole(data: bytes, name: str | Path) -> tuple[Constitution, Node]:
    """The constitution in the bytes of a YAML file, and the file's root node; raises as the one above."""
    constitution, root, problems = read_constitution(data)
    if problems or constitution is None or root is None:
        raise fail(name, problems)
    return constitution, root


def read_constitution(data: bytes) -> tuple[Constitution | None, Node | None, list[Problem]]:
    """The constitution in the bytes of a YAML file, the file's root node, and every problem.

    There is a constitution where there is no problem; there is a node wherever the YAML could be read.
    """
    if what := foreign(data):
        return None, None, [Problem(1, 1, f"{what}; {SAVE} and make a constitution of it with {IMPORT}")]
    root, problems = read_yaml(data)
    if root is None:
        return None, None, problems
    told = {problem[:2] for problem in problems}
    more: list[Problem] = []
    constitution = _constitution(root, more)
    # What stands where the syntax is wrong is not what was meant: one problem there is enough.
    problems += [problem for problem in more if problem[:2] not in told]
    return (None if problems else constitution), root, problems


def fill_form(form: str, text: str) -> str:
    """The documented template of a missing `form` (critique, revise or compare), filled with `text`."""
    return render(f"form_{form}", text=text)


def read_forms(principle: Principle) -> dict[str, str]:
    """The three messages a model reads for a principle, placeholders standing for the conversation."""
    conversation = (Message(role="user", content="[the conversation]"),)
    return {
        "critique": render("critique", principle=principle),
        "revise": render("revise", principle=principle),
        "compare": render(
            "compare", messages=conversation, a="[one reply]", b="[the other reply]", principle=principle
        ),
    }


def slug(text: str, limit: int = 64) -> str:
    """`text` as an id: lower case, runs of anything else turned to hyphens; empty where nothing is left."""
    words = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")
    return words[:limit].strip("-_")


_Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]


class _Probe(Record):
    """A probe of a principle, as a file holds it."""

    prompt: _Text
    expect: _Text = ""


class _Example(Record):
    """An example of a principle, as a file holds it."""

    prompt: _Text
    better: _Text
    worse: _Text
    critique: _Text = ""
    draft: StrictBool = False

    @model_validator(mode="after")
    def _differ(self) -> _Example:
        if self.better == self.worse:
            raise PydanticCustomError("same_answers", "better and worse are the same")
        return self


class _Principle(Record):
    """A principle as a file holds it: a form that is empty is filled from its template."""

    id: Annotated[_Text, StringConstraints(pattern=ID)]
    text: _Text
    critique: _Text = ""
    revise: _Text = ""
    compare: _Text = ""
    opposite: _Text = ""
    weight: float = Field(default=1.0, strict=True, ge=0, le=MAX_WEIGHT, allow_inf_nan=False)
    priority: _Text = ""
    tags: tuple[_Text, ...] = ()
    source: _Text = ""
    draft: StrictBool = False
    probes: tuple[_Probe, ...] = ()
    examples: tuple[_Example, ...] = ()

    def filled(self) -> Principle:
        forms = {form: getattr(self, form) or fill_form(form, self.text) for form in FORMS}
        return Principle.model_validate(self.model_dump() | forms)


class _File(Record):
    """The whole of a constitution file."""

    name: _Text
    description: _Text = ""
    priorities: tuple[_Text, ...] = ()
    principles: list[_Principle] = Field(min_length=1)


class _Entries(NamedTuple):
    """What the list under a key holds: its record, and the words for one in a message."""

    record: type[Record]
    one: str
    needs: str
    first: str


_ENTRIES = {
    "principles": _Entries(_Principle, "a principle", "id and text", "id"),
    "probes": _Entries(_Probe, "a probe", "prompt and expect", "prompt"),
    "examples": _Entries(_Example, "an example", "prompt, better and worse", "prompt"),
}
# A line to add where a key is missing.
_EXAMPLES = {
    "name": "name: a short name for this constitution",
    "principles": "principles:",
    "id": "id: a-short-name",
    "text": "text: what the principle asks for",
    "prompt": "prompt: what a user would send",
    "better": "better: an answer that keeps to the principle",
    "worse": "worse: an answer that does not",
}
Loc = tuple[int | str, ...]


def _constitution(root: Node, problems: list[Problem]) -> Constitution | None:
    if root.kind != "mapping":
        what = f"the file holds {root.describe()}; it needs the keys name and principles"
        if root.plain() is not None:
            what += f"; {IMPORT} makes a constitution of a text or a list"
        problems.append(Problem(root.line, root.column, what))
        return None
    listed = root.entries.get("principles", Node("list", root.line, root.column))
    _duplicates(listed.items, problems)
    _priorities(root, listed.items, problems)
    try:
        file = _File.model_validate(root.plain())
    except ValidationError as found:
        problems += [_problem(error["type"], error["loc"], root) for error in found.errors()]
        return None
    if not any(p.weight > 0 for p in file.principles):
        what = "every weight is 0, so no principle can be drawn; give one a weight above 0"
        problems.append(Problem(listed.line, listed.column, what))
    if problems:
        return None
    principles = tuple(principle.filled() for principle in file.principles)
    return Constitution(
        name=file.name,
        description=file.description,
        priorities=file.priorities,
        principles=principles,
    )


def _problem(kind: str, loc: Loc, root: Node) -> Problem:
    """What pydantic found at `loc`, in the words of somebody who reads the file."""
    parent, key = root.at(loc[:-1]), loc[-1]
    if kind == "extra_forbidden":
        at = parent.keys[str(key)]
        return Problem(at.line, at.column, f"unknown key {shorten(str(key))!r}; {_known_key(loc)}")
    if kind == "missing":
        what = f"the key {key!r} is missing; add '{_EXAMPLES[str(key)]}'"
        return Problem(parent.line, parent.column, what)
    node = root.at(loc)
    name = next(part for part in reversed(loc) if isinstance(part, str))
    return Problem(node.line, node.column, _wrong(kind, name, node))


def _wrong(kind: str, name: str, node: Node) -> str:
    """What is wrong with the value of the key `name`, or with an entry of the list under it."""
    entries = _ENTRIES.get(name)
    if entries and kind == "model_type":
        what = f"{entries.one} must be a mapping with {entries.needs}, not {node.describe()}"
        return f"{what}; write '- {entries.first}: …'"
    if kind == "same_answers":
        return "better and worse are the same answer; write one that keeps to the principle less well"
    if kind in ("list_type", "tuple_type"):
        each = f"'- {entries.first}:'" if entries else "'- ' on a line of its own"
        return f"{name} must be a list, not {node.describe()}; start each entry with {each}"
    if kind == "too_short":
        return f"{name} is an empty list; add at least one"
    if kind == "string_pattern_mismatch":
        near = slug(str(node.scalar))
        hint = f"write {near}" if near else "choose another"
        return f"the id {shorten(str(node.scalar))!r} must be 1-64 of a-z, 0-9, - and _; {hint}"
    if kind == "bool_type":
        return f"{name} must be true or false, not {node.describe()}; write true, or remove the key"
    if name == "weight" and kind == "float_type":
        return f"weight must be a number, not {node.describe()}; write for example 1 or 0.5"
    if name == "weight":
        return f"weight must lie in 0 to {MAX_WEIGHT:.0f}, not {node.scalar}; only ratios of weights matter"
    if kind == "string_too_short" or (node.kind == "scalar" and node.scalar is None):
        return f"{name} is empty; write it" + ("" if name in _EXAMPLES else " or remove the key")
    fix = "put it in double quotes" if node.kind == "scalar" else "write one text"
    return f"{name} must be text, not {node.describe()}; {fix}"


def _known_key(loc: Loc) -> str:
    """What a key that nobody knows may have been meant as."""
    above = next((part for part in reversed(loc[:-1]) if isinstance(part, str)), "")
    entries = _ENTRIES.get(above)
    known, owner = (entries.record, entries.one) if entries else (_File, "the file")
    near = get_close_matches(str(loc[-1]).lower(), known.model_fields, n=1)
    return f"did you mean {near[0]!r}?" if near else f"{owner} has the keys {', '.join(known.model_fields)}"


def _duplicates(items: list[Node], problems: list[Problem]) -> None:
    first: dict[str, int] = {}
    for item in items:
        at = item.entries.get("id")
        if at is None or not isinstance(at.scalar, str):
            continue
        identity = at.scalar.strip()
        if identity in first:
            what = f"the id {shorten(identity)!r} is used twice (first on line {first[identity]}); rename one"
            problems.append(Problem(at.line, at.column, what))
        first.setdefault(identity, at.line)


def _priorities(root: Node, items: list[Node], problems: list[Problem]) -> None:
    """A level that is named twice, and a principle's that is none of the levels."""
    named = root.entries.get("priorities")
    levels: list[str] = []
    for item in named.items if named else ():
        level = str(item.scalar).strip()
        if level in levels:
            what = f"the level {shorten(level)!r} stands twice in priorities, so no order is given; keep one"
            problems.append(Problem(item.line, item.column, what))
        levels.append(level)
    known = levels or list(DEFAULT_LEVELS)
    for at in (item.entries["priority"] for item in items if "priority" in item.entries):
        if isinstance(at.scalar, str) and at.scalar.strip() and at.scalar.strip() not in known:
            near = get_close_matches(at.scalar.strip().lower(), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the levels are {', '.join(known)}"
            what = f"the priority {shorten(at.scalar)!r} is no level; {hint}"
            problems.append(Problem(at.line, at.column, what))

"""Read a constitution file, and identify what it says by hash.

A constitution is data: template syntax in its texts stays as it is written. A missing critique, revise
or compare form is filled from `prompts/form_critique.j2`, `form_revise.j2` or `form_compare.j2`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

from constitute.config import RunConfig
from constitute.errors import UsageError
from constitute.packaged import find
from constitute.strict_yaml import Node, Problem, fail, read_bytes, read_yaml, shorten
from constitute.templates import render
from constitute.types import Constitution, Message, Principle, Probe

FORMS = ("critique", "revise", "compare")
FILE_KEYS = ("name", "description", "principles")
PRINCIPLE_KEYS = ("id", "text", *FORMS, "weight", "tags", "source", "applies_to", "probes")
PROBE_KEYS = ("prompt", "expect")
MAX_WEIGHT = 1000.0

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ABSENT = Node("scalar", 0, 0)


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
    constitution, _, problems = read_constitution(data)
    if problems or constitution is None:
        raise fail(name, problems)
    return constitution


def read_constitution(data: bytes) -> tuple[Constitution | None, Node | None, list[Problem]]:
    """The constitution in the bytes of a YAML file, the file's root node, and every problem.

    There is a constitution where there is no problem; there is a node wherever the YAML could be read.
    """
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


def principle_hash(principle: Principle) -> str:
    """SHA-256 (hex) of what a model reads of a principle: its text and three forms."""
    return _digest([principle.text, principle.critique, principle.revise, principle.compare])


def constitution_hash(constitution: Constitution) -> str:
    """SHA-256 (hex) of all that can change an outcome, whatever the order, comments or formatting.

    Covers each principle's id, wording, weight, tags and `applies_to`; not the file's name and
    description, nor sources and probes.
    """
    rows = [
        [p.id, principle_hash(p), p.weight, sorted(p.tags), sorted(p.applies_to)]
        for p in constitution.principles
    ]
    return _digest(sorted(rows))


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _constitution(root: Node, problems: list[Problem]) -> Constitution | None:
    if root.kind != "mapping":
        what = f"the file holds {root.describe()}; it needs the keys name and principles"
        problems.append(Problem(root.line, root.column, what))
        return None
    _unknown(root, FILE_KEYS, "the file", problems)
    name = _text(root, "name", problems, required="name: a short name for this constitution")
    description = _text(root, "description", problems)
    listed = root.entries.get("principles", _ABSENT)
    if not listed.line:
        problems.append(Problem(root.line, root.column, "the key 'principles' is missing; add it as a list"))
    elif listed.kind != "list":
        what = f"principles must be a list, not {listed.describe()}; start each one with '- id:'"
        problems.append(Problem(listed.line, listed.column, what))
    elif not listed.items:
        problems.append(Problem(listed.line, listed.column, "principles is an empty list; add at least one"))
    principles = [_principle(item, problems) for item in listed.items]
    _duplicates(listed.items, problems)
    if not problems and not any(p.weight > 0 for p in principles if p):
        what = "every weight is 0, so no principle can be drawn; give one a weight above 0"
        problems.append(Problem(listed.line, listed.column, what))
    if problems:
        return None
    kept = tuple(p for p in principles if p)
    return Constitution(name=name, description=description, principles=kept)


def _principle(node: Node, problems: list[Problem]) -> Principle | None:
    if node.kind != "mapping":
        what = f"a principle must be a mapping with id and text, not {node.describe()}; write '- id: …'"
        problems.append(Problem(node.line, node.column, what))
        return None
    before = len(problems)
    _unknown(node, PRINCIPLE_KEYS, "a principle", problems)
    identity = _text(node, "id", problems, required="id: a-short-name")
    if identity and not _ID.fullmatch(identity):
        near = slug(identity)
        hint = f"write {near}" if near else "choose another"
        at = node.entries["id"]
        what = f"the id {shorten(identity)!r} must be 1-64 of a-z, 0-9, - and _; {hint}"
        problems.append(Problem(at.line, at.column, what))
    text = _text(node, "text", problems, required="text: what the principle asks for")
    forms = {form: _text(node, form, problems) for form in FORMS}
    weight = _weight(node, problems)
    tags = _texts(node, "tags", problems)
    applies_to = _texts(node, "applies_to", problems)
    source = _text(node, "source", problems)
    probes = _list(node, "probes", _probe, problems)
    if len(problems) > before:
        return None
    filled = {form: forms[form] or fill_form(form, text) for form in FORMS}
    return Principle(
        id=identity,
        text=text,
        critique=filled["critique"],
        revise=filled["revise"],
        compare=filled["compare"],
        weight=weight,
        tags=tuple(tags),
        source=source,
        applies_to=tuple(applies_to),
        probes=tuple(probes),
    )


def slug(text: str, limit: int = 64) -> str:
    """`text` as an id: lower case, runs of anything else turned to hyphens; empty where nothing is left."""
    words = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-_")
    return words[:limit].strip("-_")


def _unknown(node: Node, known: tuple[str, ...], owner: str, problems: list[Problem]) -> None:
    for key, at in node.keys.items():
        if key in known:
            continue
        near = get_close_matches(key.lower(), known, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"{owner} has the keys {', '.join(known)}"
        problems.append(Problem(at.line, at.column, f"unknown key {shorten(key)!r}; {fix}"))


def _text(node: Node, key: str, problems: list[Problem], required: str = "") -> str:
    """The text under `key`, stripped; empty where the key is absent and not `required` (an example)."""
    value = node.entries.get(key)
    if value is None:
        if required:
            what = f"the key {key!r} is missing; add '{required}'"
            problems.append(Problem(node.line, node.column, what))
        return ""
    if value.kind != "scalar" or (value.scalar is not None and not isinstance(value.scalar, str)):
        fix = "put it in double quotes" if value.kind == "scalar" else "write one text"
        what = f"{key} must be text, not {value.describe()}; {fix}"
        problems.append(Problem(value.line, value.column, what))
        return ""
    text = (value.scalar or "").strip()
    if not text:
        fix = "write it" if required else "write it or remove the key"
        problems.append(Problem(value.line, value.column, f"{key} is empty; {fix}"))
    return text


def _weight(node: Node, problems: list[Problem]) -> float:
    value = node.entries.get("weight")
    if value is None:
        return float(Principle.model_fields["weight"].default)
    number = value.scalar
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        what = f"weight must be a number, not {value.describe()}; write for example 1 or 0.5"
    elif not isfinite(number) or not 0 <= number <= MAX_WEIGHT:
        what = f"weight must lie in 0 to {MAX_WEIGHT:.0f}, not {number}; only ratios of weights matter"
    else:
        return float(number)
    problems.append(Problem(value.line, value.column, what))
    return 0.0


def _list(
    node: Node, key: str, read: Callable[[Node, list[Problem]], Any], problems: list[Problem]
) -> list[Any]:
    value = node.entries.get(key)
    if value is None:
        return []
    if value.kind != "list":
        what = (
            f"{key} must be a list, not {value.describe()}; write each entry on a line of its own with '- '"
        )
        problems.append(Problem(value.line, value.column, what))
        return []
    return [read(item, problems) for item in value.items]


def _texts(node: Node, key: str, problems: list[Problem]) -> list[str]:
    def read(item: Node, problems: list[Problem]) -> str:
        return _text(Node("mapping", item.line, item.column, entries={key: item}), key, problems)

    return _list(node, key, read, problems)


def _probe(node: Node, problems: list[Problem]) -> Probe | None:
    if node.kind != "mapping":
        what = f"a probe must be a mapping with prompt and expect, not {node.describe()}; write '- prompt: …'"
        problems.append(Problem(node.line, node.column, what))
        return None
    before = len(problems)
    _unknown(node, PROBE_KEYS, "a probe", problems)
    prompt = _text(node, "prompt", problems, required="prompt: what a user would send")
    expect = _text(node, "expect", problems)
    return Probe(prompt=prompt, expect=expect) if len(problems) == before else None


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

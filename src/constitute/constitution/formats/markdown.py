"""Markdown for people: all that a constitution holds, under headings, read back without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from constitute.constitution.formats.base import Draft, Format, Found, LeftOut, Source, identity
from constitute.constitution.formats.blocks import heading
from constitute.constitution.priority import DEFAULT_LEVELS, level_names, levels
from constitute.constitution.read import MAX_WEIGHT
from constitute.constitution.write import number, own_forms
from constitute.errors import DataError
from constitute.strict_yaml import resolve, shorten
from constitute.types import Constitution, Example, Principle, Probe

_MARK = "<!-- a constitution: `constitute constitution import` reads this page back -->"
_LEVELS = "Priorities, the highest first: "
_FORMS = {"Critique": "critique", "Revise": "revise", "Compare": "compare", "Opposite": "opposite"}
_EXAMPLE = {"Prompt": "prompt", "Better": "better", "Worse": "worse", "Why": "critique"}
_PROBE = {"Prompt": "prompt", "Expect": "expect"}
# A text that stands as a paragraph and is no mark of Markdown; any other is quoted, line by line.
_PLAIN_TEXT = re.compile(r"[^\W\d_][^\n\t]*")
_PLAIN_VALUE = re.compile(r"[^\W_](?:[^\n\t,\"]*[^\s,\"#])?")


def _write(constitution: Constitution) -> str:
    lines = [f"# {_value(constitution.name)}", "", _MARK]
    if constitution.description:
        lines += ["", *_paragraph(constitution.description)]
    if constitution.priorities:
        lines += ["", _LEVELS + _values(constitution.priorities)]
    for title, principles in _groups(constitution):
        lines += ["", f"## {title}"] if title else []
        for principle in principles:
            lines += _principle(principle)
    return "\n".join(lines) + "\n"


def _groups(constitution: Constitution) -> list[tuple[str, list[Principle]]]:
    """The principles under their levels where any has one, else under their first tags."""
    groups: dict[str, list[Principle]] = {}
    if any(p.priority for p in constitution.principles):
        level, names = levels(constitution), level_names(constitution)
        for p in sorted(constitution.principles, key=lambda each: level[each.id]):
            groups.setdefault(f"Priority {_value(names[level[p.id]])}", []).append(p)
    else:
        for p in constitution.principles:
            groups.setdefault(_value(p.tags[0]) if p.tags else "", []).append(p)
        if len(groups) > 1 and "" in groups:
            groups["Without a tag"] = groups.pop("")
    return list(groups.items())


def _principle(p: Principle) -> list[str]:
    facts = [
        ("Priority", _value(p.priority) if p.priority else ""),
        ("Weight", number(p.weight) if p.weight != Principle.model_fields["weight"].default else ""),
        ("Tags", _values(p.tags)),
        ("Source", _value(p.source) if p.source else ""),
        ("Draft", "true" if p.draft else ""),
    ]
    lines = ["", f"### {p.id}", "", *_paragraph(p.text)]
    said = [f"- {name}: {value}" for name, value in facts if value]
    lines += ["", *said] if said else []
    own = own_forms(p) | {"opposite": p.opposite}
    for name, form in _FORMS.items():
        lines += _field(name, own.get(form, ""))
    for at, example in enumerate(p.examples, 1):
        lines += ["", f"#### Example {at}{' (draft)' if example.draft else ''}"]
        for name, key in _EXAMPLE.items():
            lines += _field(name, getattr(example, key))
    for at, probe in enumerate(p.probes, 1):
        lines += ["", f"#### Probe {at}"]
        for name, key in _PROBE.items():
            lines += _field(name, getattr(probe, key))
    return lines


def _field(name: str, text: str) -> list[str]:
    return ["", f"**{name}**", "", *_quoted(text)] if text else []


def _paragraph(text: str) -> list[str]:
    return [text] if _PLAIN_TEXT.fullmatch(text) and not text.startswith(_LEVELS) else _quoted(text)


def _quoted(text: str) -> list[str]:
    return [f"> {line}" if line else ">" for line in text.split("\n")]


def _value(text: str) -> str:
    return text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _values(texts: Sequence[str]) -> str:
    return ", ".join(map(_value, texts))


def _parsed(text: str) -> list[str]:
    """The values of a line that `_values` wrote; raises `ValueError`."""
    found: list[str] = []
    while text := text.strip():
        if text.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(text)
            found.append(value)
            _, _, text = text[end:].partition(",")
        else:
            value, _, text = text.partition(",")
            found.append(value.strip())
    return found


@dataclass
class _Part:
    """What stands under a heading of the fourth level, or right under the principle: its texts by label."""

    title: str
    line: int
    texts: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Open:
    """A principle, or before the first one the document, that is being read."""

    id: str
    line: int
    facts: dict[str, tuple[int, str]] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)


def _read(source: Source) -> Found:
    title, whole, left = _scan(source)
    head, principles = whole[0], whole[1:]
    named = head.facts.get("Priorities")
    priorities = tuple(_facts(source, *named)) if named else ()
    drafts = [_draft(each, priorities or DEFAULT_LEVELS, source, left) for each in principles]
    kept = [draft for draft in drafts if draft is not None]
    return Found(kept, title, _text(head.parts[0], ""), priorities=priorities, left_out=left)


def _scan(source: Source) -> tuple[str, list[_Open], list[LeftOut]]:
    """The title, the document's head with the principles, and the lines that are none of these."""
    title, left = "", []
    whole = [_Open("", 1, parts=[_Part("", 1)])]
    label, begun = "", False
    for at, line in enumerate(source.text.split("\n"), 1):
        part = whole[-1].parts[-1]
        found = heading(line)
        if found:
            level, words = found
            label = ""
            if level == 1 and not title:
                title = (_facts(source, at, words) or [""])[0] if words.startswith('"') else words
            elif level == 3:
                whole.append(_Open(words, at, parts=[_Part("", at)]))
            elif level == 4:
                whole[-1].parts.append(_Part(words, at))
            elif level != 2:
                left.append(LeftOut(at, "a heading of another level", line))
        elif line.startswith(">"):
            part.texts.setdefault(label, []).append(line[2:] if line.startswith("> ") else line[1:])
        elif named := re.fullmatch(r"\*\*(\w+)\*\*", line.strip()):
            label = named[1]
        elif fact := re.fullmatch(r"- (\w+): (.*)", line.rstrip("\n")):
            whole[-1].facts[fact[1]] = (at, fact[2])
        elif len(whole) == 1 and line.startswith(_LEVELS):
            whole[0].facts["Priorities"] = (at, line.removeprefix(_LEVELS))
        elif line.strip() and line.strip() != _MARK:
            rows = part.texts.setdefault(label, [])
            if rows and not begun:
                rows.append("")
            rows.append(f"{rows.pop()} {line.strip()}" if rows and begun else line.strip())
        begun = bool(line.strip()) and not found and not line.startswith((">", "- ", "**"))
    return title, whole, left


def _facts(source: Source, line: int, text: str) -> list[str]:
    try:
        return _parsed(text)
    except ValueError:
        raise DataError(f"{source.path}:{line}: {shorten(text)!r} has a quote that does not close") from None


def _text(part: _Part, label: str) -> str:
    return "\n".join(part.texts.get(label, [])).strip()


def _draft(found: _Open, names: Sequence[str], source: Source, left: list[LeftOut]) -> Draft | None:
    first, *more = found.parts
    text = _text(first, "")
    if not text:
        left.append(LeftOut(found.line, "a principle without a text", found.id))
        return None
    facts = {key: _facts(source, *value) for key, value in found.facts.items() if key != "Weight"}
    for key, (line, value) in found.facts.items():
        if key not in ("Priority", "Weight", "Tags", "Source", "Draft"):
            left.append(LeftOut(line, "not a fact of a principle", f"{key}: {value}"))
    for label in set(first.texts) - {"", *_FORMS}:
        left.append(LeftOut(first.line, "a part of no known name", label))
    examples, probes = _parts(more, left)
    return Draft(
        text=text,
        id=identity(found.id),
        weight=_weight(found, source),
        priority=_level(found, facts, names, source),
        tags=tuple(facts.get("Tags", ())),
        source=", ".join(facts.get("Source", ())),
        draft=facts.get("Draft") == ["true"],
        examples=tuple(examples),
        probes=tuple(probes),
        **{form: _text(first, label) for label, form in _FORMS.items()},
    )


def _parts(parts: Sequence[_Part], left: list[LeftOut]) -> tuple[list[Example], list[Probe]]:
    """The examples and probes of a principle; what is neither, or lacks something, is left out."""
    examples: list[Example] = []
    probes: list[Probe] = []
    for part in parts:
        keys = _PROBE if part.title.startswith("Probe") else _EXAMPLE
        texts = {key: _text(part, label) for label, key in keys.items()}
        if keys is _PROBE and texts["prompt"]:
            probes.append(Probe(**texts))
            continue
        lacking = [label for label, key in keys.items() if not texts[key] and label not in ("Why", "Expect")]
        if not part.title.startswith(("Probe", "Example")):
            left.append(LeftOut(part.line, "neither an example nor a probe", part.title))
        elif lacking:
            left.append(LeftOut(part.line, f"an example without {' and '.join(lacking)}", part.title))
        elif texts["better"] == texts["worse"]:
            left.append(LeftOut(part.line, "an example whose two answers are the same", part.title))
        else:
            examples.append(Example(**texts, draft=part.title.endswith("(draft)")))
    return examples, probes


def _weight(found: _Open, source: Source) -> float:
    if "Weight" not in found.facts:
        return 1.0
    line, text = found.facts["Weight"]
    given = resolve(text.strip())
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= MAX_WEIGHT:
        what = f"weight must be a number from 0 to {MAX_WEIGHT:.0f}, not {shorten(text)!r}"
        raise DataError(f"{source.path}:{line}: {what}")
    return float(given)


def _level(found: _Open, facts: dict[str, list[str]], names: Sequence[str], source: Source) -> str:
    level = next(iter(facts.get("Priority", ())), "")
    if level and level not in names:
        what = f"the priority {shorten(level)!r} is no level; the levels are {', '.join(names)}"
        raise DataError(f"{source.path}:{found.facts['Priority'][0]}: {what}")
    return level


MARKDOWN = Format(
    about="a constitution's own page in Markdown (.md)",
    detect=lambda source: (
        source.path.suffix in (".md", ".markdown", ".txt") and _MARK in source.text[:20_000]
    ),
    read=_read,
    write=_write,
    holds=frozenset({"critique", "revise", "compare", "weight", "tags"}),
    any_text=True,
)

"""Write a constitution as YAML that people edit."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from constitute.constitution.read import FORMS, fill_form, parse_constitution
from constitute.errors import DataError
from constitute.strict_yaml import MAX_BYTES
from constitute.types import Constitution, Example, Principle

WIDTH = 100

# What stays itself as an unquoted YAML scalar, whichever version of YAML reads it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.;!?'()/_-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"}
_UNPRINTABLE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def to_yaml(constitution: Constitution) -> str:
    """The constitution as YAML; a form that equals the filled template is left out, so edits carry over."""
    lines = [f"name: {scalar(constitution.name, 2)}"]
    if constitution.description:
        lines.append(f"description: {scalar(constitution.description, 2)}")
    lines += _listed("priorities", constitution.priorities, indent=0)
    lines += ["", "principles:"]
    for principle in constitution.principles:
        lines += [*entry(principle), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def loadable(constitution: Constitution) -> str:
    """The constitution as YAML that loads as the same; `DataError` where no file can hold it."""
    text = to_yaml(constitution)
    if len(text.encode()) > MAX_BYTES:
        raise DataError(f"the constitution would be larger than {MAX_BYTES:,} bytes; take fewer principles")
    if parse_constitution(text.encode(), "the result") != constitution:
        raise DataError("the constitution would not be read back as it is; report this with its file")
    return text


def own_forms(principle: Principle) -> dict[str, str]:
    """The forms of a principle that its template would not give."""
    forms = {form: getattr(principle, form) for form in FORMS}
    return {form: text for form, text in forms.items() if text != fill_form(form, principle.text)}


def entry(principle: Principle) -> list[str]:
    """The lines of one principle of the list, its dash two spaces in."""
    lines = [f"  - id: {scalar(principle.id, 6)}", f"    text: {scalar(principle.text, 6)}"]
    lines += [f"    {form}: {scalar(text, 6)}" for form, text in own_forms(principle).items()]
    if principle.opposite:
        lines.append(f"    opposite: {scalar(principle.opposite, 6)}")
    if principle.weight != Principle.model_fields["weight"].default:
        lines.append(f"    weight: {number(principle.weight)}")
    if principle.priority:
        lines.append(f"    priority: {scalar(principle.priority, 6)}")
    lines += _listed("tags", principle.tags)
    if principle.source:
        lines.append(f"    source: {scalar(principle.source, 6)}")
    if principle.draft:
        lines.append("    draft: true")
    if principle.probes:
        lines.append("    probes:")
    for probe in principle.probes:
        lines.append(f"      - prompt: {scalar(probe.prompt, 10)}")
        if probe.expect:
            lines.append(f"        expect: {scalar(probe.expect, 10)}")
    if principle.examples:
        lines += ["    examples:", *example_lines(principle.examples)]
    return lines


def example_lines(examples: Sequence[Example]) -> list[str]:
    """The lines of a principle's list of examples, each dash six spaces in."""
    lines = []
    for example in examples:
        lines.append(f"      - prompt: {scalar(example.prompt, 10)}")
        lines += [f"        {key}: {scalar(getattr(example, key), 10)}" for key in ("better", "worse")]
        if example.critique:
            lines.append(f"        critique: {scalar(example.critique, 10)}")
        if example.draft:
            lines.append("        draft: true")
    return lines


def _listed(key: str, values: Sequence[str], indent: int = 4) -> list[str]:
    if not values:
        return []
    pad = " " * indent
    if all(_PLAIN.fullmatch(v) and "," not in v and v.lower() not in _WORDS for v in values):
        return [f"{pad}{key}: [{', '.join(v.strip() for v in values)}]"]
    return [f"{pad}{key}:", *(f"{pad}  - {scalar(value, indent + 4)}" for value in values)]


def number(value: float) -> str:
    """A weight as a person writes it."""
    return str(int(value)) if value == int(value) else repr(value)


def scalar(text: str, indent: int) -> str:
    """`text` as a YAML scalar whose further lines stand `indent` spaces in."""
    room, pad = WIDTH - indent, "\n" + " " * indent
    if _PLAIN.fullmatch(text) and len(text) <= room and text[-1] != " " and text.lower() not in _WORDS:
        return text
    lines = text.split("\n")
    tidy = not _UNPRINTABLE.search(text) and "\t" not in text and not any(_ragged(line) for line in lines)
    if tidy and len(lines) == 1 and len(text) > room and "  " not in text:
        return ">-" + pad + pad.join(_wrap(text, room))
    if tidy and len(lines) > 1 and lines[0] and lines[-1]:
        return "|-" + "".join(pad + line if line else "\n" for line in lines)
    return quoted(text)


def _ragged(line: str) -> bool:
    return line != line.strip()


def _wrap(text: str, room: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def quoted(text: str) -> str:
    """`text` in double quotes on one line."""
    out = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + _UNPRINTABLE.sub(lambda m: f"\\U{ord(m[0]):08x}", out) + '"'


def free_id(identity: str, taken: Collection[str], numbers: dict[str, int] | None = None) -> str:
    """`identity`, with a number where it is taken; `numbers` remembers the last number of each name."""
    numbers = {} if numbers is None else numbers
    candidate, at = identity, numbers.get(identity, 2)
    while candidate in taken:
        candidate = f"{identity[:58]}-{at}"
        at += 1
    numbers[identity] = at
    return candidate

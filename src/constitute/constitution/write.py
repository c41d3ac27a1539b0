"""Write a constitution as YAML that people edit, or in a public format that other tools read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence

from constitute.constitution.read import FORMS, fill_form, slug
from constitute.types import Constitution, Principle

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
    lines += ["", "principles:"]
    for principle in constitution.principles:
        lines += [*entry(principle), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def own_forms(principle: Principle) -> dict[str, str]:
    """The forms of a principle that its template would not give."""
    forms = {form: getattr(principle, form) for form in FORMS}
    return {form: text for form, text in forms.items() if text != fill_form(form, principle.text)}


def export(constitution: Constitution, kind: str) -> tuple[str, list[str]]:
    """The constitution in the format `kind`, and a sentence for each thing the format cannot hold."""
    text = WRITERS[kind](constitution)
    held = _HOLDS[kind]
    notes = []
    for what, names in (
        ("critique or revise forms", {"critique", "revise"}),
        ("compare forms", {"compare"}),
    ):
        count = sum(bool(names & set(own_forms(p))) for p in constitution.principles)
        if count and not names & held:
            notes.append(f"the format {kind} cannot hold the {what} of {count} principle(s)")
    if "weight" not in held and len({p.weight for p in constitution.principles}) > 1:
        notes.append(f"the format {kind} cannot hold weights")
    if kind != "yaml" and any(p.probes or p.tags or p.applies_to for p in constitution.principles):
        notes.append(f"the format {kind} cannot hold tags, applies_to and probes")
    return text, notes


def entry(principle: Principle) -> list[str]:
    """The lines of one principle of the list, its dash two spaces in."""
    lines = [f"  - id: {scalar(principle.id, 6)}", f"    text: {scalar(principle.text, 6)}"]
    lines += [f"    {form}: {scalar(text, 6)}" for form, text in own_forms(principle).items()]
    if principle.weight != Principle.model_fields["weight"].default:
        lines.append(f"    weight: {number(principle.weight)}")
    lines += _listed("tags", principle.tags)
    if principle.source:
        lines.append(f"    source: {scalar(principle.source, 6)}")
    lines += _listed("applies_to", principle.applies_to)
    if principle.probes:
        lines.append("    probes:")
    for probe in principle.probes:
        lines.append(f"      - prompt: {scalar(probe.prompt, 10)}")
        if probe.expect:
            lines.append(f"        expect: {scalar(probe.expect, 10)}")
    return lines


def _listed(key: str, values: Sequence[str]) -> list[str]:
    if not values:
        return []
    if all(_PLAIN.fullmatch(v) and "," not in v and v.lower() not in _WORDS for v in values):
        return [f"    {key}: [{', '.join(v.strip() for v in values)}]"]
    return [f"    {key}:", *(f"      - {scalar(value, 8)}" for value in values)]


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


def free_id(identity: str, taken: Collection[str]) -> str:
    """`identity`, with a number where it is taken."""
    at, candidate = 2, identity
    while candidate in taken:
        candidate = f"{identity[:58]}-{at}"
        at += 1
    return candidate


def _markdown(constitution: Constitution) -> str:
    head = [f"# {' '.join(constitution.name.split())}"]
    if constitution.description:
        words = " ".join(constitution.description.split())
        # What looks like an item or a heading would be read as one; a backslash says that it is text.
        head += ["", re.sub(r"^(?=([-*+]|#{1,6}|P?\d{1,3}[.:)]) )", r"\\", words)]
    body = [f"- **{p.id}**: {' '.join(p.text.split())}" for p in constitution.principles]
    return "\n".join([*head, "", *body]) + "\n"


def _cai_revise(constitution: Constitution) -> str:
    rows = {
        p.id: {
            "prompt": [f"\n\nCritiqueRequest: {p.critique}\n\nCritique:"],
            "edit_request": f"\n\nRevisionRequest: {p.revise}\n\nRevision:",
        }
        for p in constitution.principles
    }
    return json.dumps(rows, ensure_ascii=False)


def _cai_compare(constitution: Constitution) -> str:
    return json.dumps([f"\n{p.compare} Options:" for p in constitution.principles], ensure_ascii=False)


def _hf(constitution: Constitution) -> str:
    pairs = [{"critic": p.critique, "revision": p.revise} for p in constitution.principles]
    return _pretty({"constitutions": pairs, "system_chat": []})


def _salmon(constitution: Constitution) -> str:
    rows = [
        {"dimension": _title(p.id), "definition": p.text, "weight": p.weight} for p in constitution.principles
    ]
    return _pretty(rows)


def _title(identity: str) -> str:
    """An id as words, where they give the id back."""
    words = identity.replace("-", " ").title()
    return words if slug(words) == identity else identity


def _icai(constitution: Constitution) -> str:
    rows = [f"{i}. {' '.join(p.text.split())}" for i, p in enumerate(constitution.principles, 1)]
    return json.dumps("\n".join(rows), ensure_ascii=False) + "\n"


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


WRITERS: dict[str, Callable[[Constitution], str]] = {
    "yaml": to_yaml,
    "cai-revise": _cai_revise,
    "cai-compare": _cai_compare,
    "hf": _hf,
    "markdown": _markdown,
    "salmon": _salmon,
    "icai": _icai,
}
_HOLDS: dict[str, set[str]] = {
    "yaml": {"critique", "revise", "compare", "weight"},
    "cai-revise": {"critique", "revise"},
    "cai-compare": {"compare"},
    "hf": {"critique", "revise"},
    "markdown": set(),
    "salmon": {"weight"},
    "icai": set(),
}

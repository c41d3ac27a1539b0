"""The OpenAI Model Spec's Markdown: sections with an id and a level of authority, and compared answers.

The shape (github.com/openai/model_spec, model_spec.md): `## Title {#id authority=user}`, commentary in
`!!!` blocks, and conversations in fences with a <comparison> of answers marked GOOD, OK or BAD.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import replace

from constitute.constitution.formats.asks import why_not
from constitute.constitution.formats.base import Draft, Format, Found, LeftOut, Source, identity
from constitute.constitution.formats.blocks import Block, blocks, heading
from constitute.constitution.formats.comparisons import read_comparisons
from constitute.constitution.formats.prose import ENDINGS, NO_PRINCIPLE, notes_on_language
from constitute.constitution.formats.sections import MOST_WORDS, Section, asked, plain, sections, size
from constitute.constitution.priority import DEFAULT_LEVELS, level_names
from constitute.constitution.read import slug
from constitute.types import Constitution, Example

_AUTHORITY = re.compile(r"\{[^{}]*\bauthority=[^{}]*\}$")
_TURN = re.compile(r"^\s*<(?:system|developer|user|assistant|tool|comparison)\b", re.MULTILINE)
_EXAMPLE = re.compile(r"[*_]*Examples?[*_]*\s*:")


def _detect(source: Source) -> bool:
    return source.path.suffix in ENDINGS and any(
        heading(line) and _AUTHORITY.search(line.rstrip())
        for line in source.text.split("\n")
        if line.startswith("#")
    )


def _read(source: Source) -> Found:
    document = blocks(source.text)
    titles = {b.id: plain(b.text) for b in document if b.kind == "heading" and b.id}
    drafts: list[Draft] = []
    left: list[LeftOut] = []
    notes: list[str] = []
    for section in sections(document):
        level = _level(section)
        if level and level not in DEFAULT_LEVELS:
            known = ", ".join(DEFAULT_LEVELS)
            notes.append(
                f"{source.path}:{section.line}: the authority {level!r} is no level ({known}); left out"
            )
            level = ""
            found, out = _section(section, source, titles, level)
        elif level:
            found, out = _section(section, source, titles, level)
        else:
            found, out = [], [LeftOut(b.line, _unruled(b), b.text) for b in section.blocks]
        if section.heading is not None and not found:
            left.append(LeftOut(section.line, NO_PRINCIPLE, section.heading.text))
        drafts += found
        left += out
    notes += notes_on_language(source, drafts)
    return Found(drafts, notes=notes, left_out=left, length=sum(size(block.text) for block in document))


def _level(section: Section) -> str:
    """The authority of a section: its own, else that of the nearest heading above that has one."""
    chain = [*([section.heading] if section.heading else []), *reversed(section.path)]
    return next((b.attributes["authority"] for b in chain if b.attributes.get("authority")), "")


def _unruled(block: Block) -> str:
    return "commentary" if block.kind == "commentary" else "its section has no level of authority"


def _section(
    section: Section, source: Source, titles: Mapping[str, str], level: str
) -> tuple[list[Draft], list[LeftOut]]:
    """The principles of a section, each with the examples that follow it, and what is left out."""
    texts: list[tuple[str, int]] = []
    shown: list[tuple[int, list[Example]]] = []
    left: list[LeftOut] = []
    run: list[Block] = []
    fences: list[Block] = []

    def close() -> None:
        units, out = asked(run, titles)
        for unit in units:
            words = len(texts[-1][0].split()) + len(unit.text.split()) if texts else MOST_WORDS + 1
            if words <= MOST_WORDS and not (shown and shown[-1][0] == len(texts)):
                texts[-1] = (_joined(texts[-1][0], unit.text), texts[-1][1])
            elif unit.text:
                texts.append((unit.text, unit.line))
        left.extend(out)
        run.clear()

    for block in section.blocks:
        if block.kind == "fence" and _TURN.search(block.text):
            close()
            examples, out = read_comparisons(block.text, block.line)
            shown.append((len(texts), examples))
            fences.append(block)
            left.extend(out)
        elif block.kind == "paragraph" and _EXAMPLE.match(block.text):
            left.append(LeftOut(block.line, "the title of an example", block.text))
        else:
            run.append(block)
    close()
    if not texts and section.title and not why_not(section.title):
        texts.append((section.title, section.line))
    if not texts:
        return [], [*left, *(LeftOut(b.line, "its section asks for nothing", b.text) for b in fences)]
    drafts = _drafts(texts, section, source, level)
    return _with_examples(drafts, shown), left


def _joined(before: str, more: str) -> str:
    return f"{before}\n{more}" if "\n- " in before or "\n- " in more else f"{before} {more}"


def _drafts(texts: list[tuple[str, int]], section: Section, source: Source, level: str) -> list[Draft]:
    block = section.heading
    name = identity(block.id) if block and block.id else slug(section.title)
    chain = [*section.path, *([block] if block else [])]
    under = [slug(plain(each.text)) for each in section.path[:1]]
    marked = [tag for each in chain for tag in each.attributes.get("tags", "").split(",")]
    tags = tuple(dict.fromkeys(tag for tag in (*under, *marked) if tag))
    return [
        Draft(
            text=text,
            id=name,
            priority=level,
            tags=tags,
            source=f"{source.path.name}, line {line}: {section.title}",
        )
        for text, line in texts
    ]


def _with_examples(drafts: list[Draft], shown: list[tuple[int, list[Example]]]) -> list[Draft]:
    """The drafts, each example with the principle that stands before it, the first where none does."""
    for before, examples in shown:
        if examples:
            at = max(0, min(before, len(drafts)) - 1)
            drafts[at] = replace(drafts[at], examples=(*drafts[at].examples, *examples))
    return drafts


def _write(constitution: Constitution) -> str:
    """A section for each principle. Its id stands for a title, which a constitution does not have."""
    lines = [f"# {' '.join(constitution.name.split())}"]
    for p in constitution.principles:
        authority = f" authority={p.priority or level_names(constitution)[-1]}"
        lines += ["", f"## {p.id} {{#{p.id}{authority}}}", "", " ".join(p.text.split())]
        for each in p.examples:
            said = f": {' '.join(each.critique.split())}" if each.critique else ""
            lines += ["", "**Example**:", "", "~~~xml", "<user>", _escaped(each.prompt), "</user>"]
            lines += ["<comparison>", "<assistant> <!-- GOOD -->", _escaped(each.better), "</assistant>"]
            lines += [f"<assistant> <!-- BAD{said} -->", _escaped(each.worse), "</assistant>"]
            lines += ["</comparison>", "~~~"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


MODEL_SPEC = Format(
    about="the OpenAI Model Spec's Markdown",
    detect=_detect,
    read=_read,
    write=_write,
    any_text=True,
)

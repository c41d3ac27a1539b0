"""Markdown and plain text: list items, else sections, else paragraphs or lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from constitute.constitution.formats.base import Format, Found, Source, identity, instruction
from constitute.constitution.read import slug
from constitute.types import Constitution

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_ITEM = re.compile(r"( *)(?:[-*+]|\d{1,3}[.)]|P\d{1,3}[.:)])\s+(\S.*)$")
_LABEL = re.compile(r"\*\*([^*]+?)(?::\*\*|\*\*:)\s*(\S.*)$", re.DOTALL)
_NUMBER = re.compile(r"P?\d{1,3}[.:)]?\s+")


@dataclass
class Item:
    """One principle found: its text, the label that stood before it, and the heading above it."""

    text: str
    label: str = ""
    section: str = ""


@dataclass(frozen=True)
class MarkdownText:
    """What a text holds; `left_out` are the numbers of lines that belong to no principle."""

    title: str
    description: str
    items: list[Item]
    left_out: list[int]


def read_text(text: str, source: Source) -> Found:
    """The principles of a text, with a note of the lines that belong to none."""
    document = _document(text)
    notes = []
    if document.left_out:
        lines = ", ".join(map(str, document.left_out[:5]))
        what = f"{len(document.left_out)} line(s) outside the list left out (line {lines})"
        notes.append(f"{source.path}: {what}")
    drafts = [
        replace(
            instruction(item.text),
            id=identity(item.label),
            tags=(slug(item.section),) if slug(item.section) else (),
        )
        for item in document.items
    ]
    return Found(drafts, document.title, document.description, notes)


def _document(text: str) -> MarkdownText:
    """The principles of a text.

    Items of a list where there is one (nested items stay inside theirs; a `**label**:` in front names
    the principle, the heading above becomes its section); else the body under each heading of the
    second level or below; else the paragraphs, or the lines where no blank line parts them.
    """
    lines = text.replace("\t", "    ").split("\n")
    title = next((m[2] for line in lines if (m := _HEADING.match(line)) and len(m[1]) == 1), "")
    if any(_top_item(line) for line in lines):
        return _from_list(lines, title)
    if any((m := _HEADING.match(line)) and len(m[1]) > 1 for line in lines):
        return _from_sections(lines, title)
    body = "\n".join(line for line in lines if not _HEADING.match(line)).strip()
    blocks = re.split(r"\n\s*\n", body) if re.search(r"\n\s*\n", body) else body.split("\n")
    items = [_labelled(" ".join(block.split())) for block in blocks if block.strip()]
    return MarkdownText(title, "", items, [])


def _top_item(line: str) -> re.Match[str] | None:
    found = _ITEM.match(line)
    return found if found and len(found[1]) < 2 else None


def _from_list(lines: list[str], title: str) -> MarkdownText:
    items: list[Item] = []
    intro: list[str] = []
    left_out: list[int] = []
    section, open_item = "", False
    for number, line in enumerate(lines, 1):
        if heading := _HEADING.match(line):
            section, open_item = (heading[2] if len(heading[1]) > 1 else ""), False
        elif found := _top_item(line):
            items.append(Item(found[2].strip(), section=section))
            open_item = True
        elif not line.strip():
            open_item = open_item and number < len(lines) and lines[number].startswith("  ")
        elif open_item:
            nested = _ITEM.match(line)
            items[-1].text += f"\n- {nested[2].strip()}" if nested else f" {line.strip()}"
        elif not items:
            intro.append(line.strip())
        else:
            left_out.append(number)
    labelled = [_labelled(item.text, item.section) for item in items]
    return MarkdownText(title, " ".join(intro), labelled, left_out)


def _from_sections(lines: list[str], title: str) -> MarkdownText:
    items: list[Item] = []
    intro: list[str] = []
    for line in lines:
        heading = _HEADING.match(line)
        if heading and len(heading[1]) > 1:
            items.append(Item("", label=_NUMBER.sub("", heading[2], count=1)))
        elif not heading and line.strip():
            if items:
                items[-1].text = f"{items[-1].text} {line.strip()}".strip()
            else:
                intro.append(line.strip())
    # A heading without a body is the principle itself.
    found = [Item(item.text or item.label, item.label) for item in items]
    return MarkdownText(title, " ".join(intro), found, [])


def _labelled(text: str, section: str = "") -> Item:
    found = _LABEL.match(text)
    label, rest = (found[1], found[2]) if found else ("", text)
    return Item(rest.replace("**", "").strip(), label, section)


def _write(constitution: Constitution) -> str:
    head = [f"# {' '.join(constitution.name.split())}"]
    if constitution.description:
        words = " ".join(constitution.description.split())
        # What looks like an item or a heading would be read as one; a backslash says that it is text.
        head += ["", re.sub(r"^(?=([-*+]|#{1,6}|P?\d{1,3}[.:)]) )", r"\\", words)]
    body = [f"- **{p.id}**: {' '.join(p.text.split())}" for p in constitution.principles]
    return "\n".join([*head, "", *body]) + "\n"


MARKDOWN = Format(
    about="lists in Markdown or plain text (.md, .txt)",
    detect=lambda source: source.path.suffix in (".md", ".markdown", ".txt"),
    read=lambda source: read_text(source.text, source),
    write=_write,
)

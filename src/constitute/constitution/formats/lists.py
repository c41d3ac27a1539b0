"""Lists in Markdown and plain text: list items, else sections, else paragraphs or lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from constitute.constitution.formats.base import Format, Found, Source, identity, instruction
from constitute.constitution.formats.blocks import blocks, heading
from constitute.constitution.formats.sentences import sentences
from constitute.constitution.read import slug
from constitute.types import Constitution

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
    headings = [heading(line) for line in lines]
    title = next((found[1] for found in headings if found and found[0] == 1), "")
    if any(_top_item(line) for line in lines):
        return _from_list(lines, headings, title)
    if any(found and found[0] > 1 for found in headings):
        return _from_sections(lines, headings, title)
    body = "\n".join(line for line, found in zip(lines, headings, strict=True) if not found).strip()
    parts = re.split(r"\n(?:[^\S\n]*\n)+", body)
    items = [_labelled(" ".join(part.split())) for part in (parts if len(parts) > 1 else body.split("\n"))]
    return MarkdownText(title, "", [item for item in items if item.text], [])


def _top_item(line: str) -> re.Match[str] | None:
    found = _ITEM.match(line)
    return found if found and len(found[1]) < 2 else None


@dataclass
class _Open:
    """A principle that is being read, in parts."""

    parts: list[str]
    label: str = ""
    section: str = ""


def _from_list(lines: list[str], headings: Sequence[tuple[int, str] | None], title: str) -> MarkdownText:
    items: list[_Open] = []
    intro: list[str] = []
    left_out: list[int] = []
    section, open_item = "", False
    for number, (line, above) in enumerate(zip(lines, headings, strict=True), 1):
        if above:
            section, open_item = (above[1] if above[0] > 1 else ""), False
        elif found := _top_item(line):
            items.append(_Open([found[2].strip()], section=section))
            open_item = True
        elif not line.strip():
            open_item = open_item and number < len(lines) and lines[number].startswith("  ")
        elif open_item:
            nested = _ITEM.match(line)
            items[-1].parts.append(f"\n- {nested[2].strip()}" if nested else f" {line.strip()}")
        elif not items:
            intro.append(line.strip())
        else:
            left_out.append(number)
    labelled = [_labelled("".join(item.parts), item.section) for item in items]
    return MarkdownText(title, " ".join(intro), labelled, left_out)


def _from_sections(lines: list[str], headings: Sequence[tuple[int, str] | None], title: str) -> MarkdownText:
    items: list[_Open] = []
    intro: list[str] = []
    for line, above in zip(lines, headings, strict=True):
        if above and above[0] > 1:
            items.append(_Open([], label=_NUMBER.sub("", above[1], count=1)))
        elif not above and line.strip():
            (items[-1].parts if items else intro).append(line.strip())
    # A heading without a body is the principle itself.
    found = [Item(" ".join(item.parts) or item.label, item.label) for item in items]
    return MarkdownText(title, " ".join(intro), found, [])


def _labelled(text: str, section: str = "") -> Item:
    found = _LABEL.match(text)
    label, rest = (found[1], found[2]) if found else ("", text)
    return Item(rest.replace("**", "").strip(), label, section)


def is_list(text: str) -> bool:
    """Whether a text is a list: most of it in items, every item labelled, or every part one sentence.

    Prose has a few lists, and paragraphs of several sentences.
    """
    found = [block for block in blocks(text) if block.kind != "heading"]
    in_items = sum(len(block.text) for block in found if block.kind == "item")
    if in_items:
        labelled = all(_LABEL.match(block.text) for block in found if block.kind == "item")
        return labelled or 2 * in_items >= sum(len(block.text) for block in found)
    if any(block.kind not in ("paragraph", "table") for block in found):
        return False
    parts = [part for block in found for part in (block.parts if len(found) == 1 else [block.text])]
    return all(len(sentences(part)) <= 1 for part in parts)


def write_list(constitution: Constitution) -> str:
    """The texts as a plain Markdown list, each on a line behind its id."""
    head = [f"# {' '.join(constitution.name.split())}"]
    if constitution.description:
        words = " ".join(constitution.description.split())
        # What looks like an item or a heading would be read as one; a backslash says that it is text.
        head += ["", re.sub(r"^(?=([-*+]|#{1,6}|P?\d{1,3}[.:)]) )", r"\\", words)]
    body = [f"- **{p.id}**: {' '.join(p.text.split())}" for p in constitution.principles]
    return "\n".join([*head, "", *body]) + "\n"


LIST = Format(
    about="lists in Markdown or plain text (.md, .txt)",
    detect=lambda source: source.path.suffix in (".md", ".markdown", ".txt") and is_list(source.text),
    read=lambda source: read_text(source.text, source),
    write=write_list,
    any_text=True,
)

"""Prose, in Markdown or plain: the sentences that ask something of a model, each a principle."""

from __future__ import annotations

import re

from constitute.constitution.formats.asks import not_english
from constitute.constitution.formats.base import Draft, Format, Found, LeftOut, Source
from constitute.constitution.formats.blocks import blocks
from constitute.constitution.formats.lists import is_list
from constitute.constitution.formats.sections import Section, asked, plain, sections, size
from constitute.constitution.read import slug
from constitute.errors import DataError
from constitute.types import Constitution

ENDINGS = (".md", ".markdown", ".txt", ".rst", ".text")
LANGUAGE = (
    "the text does not read as English, and only English sentences are recognised as asking for something; "
    "write the principles as a list, one an item, and import it with --format list"
)
NO_PRINCIPLE = "a heading over no principle"
_SUBJECT = re.compile(
    r"(?:(?:the|an?|our) )?(?:ai )?(?:assistants?|models?|chatbots?|bots?|agents?|claude|it|you|we want \w+)"
    r"(?:['’]s)? (?:also |always )?(?:(?:must|should|shall|will|needs? to|has to|to|does)\b )?"
    r"(?:also |always )?",
    re.IGNORECASE,
)


def short_id(text: str) -> str:
    """An id of the first words of a text that are not "The assistant should"."""
    begun = _SUBJECT.match(text)
    words = text[begun.end() :] if begun else text
    return slug(" ".join(words.split()[:6]), 48) or slug(" ".join(text.split()[:6]), 48)


def notes_on_language(source: Source, found: list[Draft]) -> list[str]:
    """A note where the text is in another language; `DataError` where nothing was found in it."""
    if not not_english(source.text):
        return []
    if not found:
        raise DataError(f"{source.path}: no principle was found: {LANGUAGE}")
    return [f"{source.path}: {LANGUAGE}"]


def _read(source: Source) -> Found:
    document = blocks(source.text)
    tops = [block for block in document if block.kind == "heading" and block.level == 1]
    title = tops[0] if len(tops) == 1 else None
    drafts: list[Draft] = []
    left: list[LeftOut] = []
    for section in sections(document):
        found, out = _section(section, source)
        if section.heading is not None and section.heading is not title and not found:
            left.append(LeftOut(section.line, NO_PRINCIPLE, section.heading.text))
        drafts += found
        left += out
    notes = notes_on_language(source, drafts)
    length = sum(size(block.text) for block in document)
    return Found(drafts, plain(title.text) if title else "", notes=notes, left_out=left, length=length)


def _section(section: Section, source: Source) -> tuple[list[Draft], list[LeftOut]]:
    units, left = asked(section.blocks, {})
    named = section.heading is not None and (section.heading.level > 1 or bool(section.path))
    tags = (slug(section.title),) if named and slug(section.title) else ()
    drafts = [
        Draft(
            text=unit.text,
            id=short_id(unit.text),
            tags=tags,
            source=f"{source.path.name}, line {unit.line}",
        )
        for unit in units
        if unit.text
    ]
    return drafts, left


def _write(constitution: Constitution) -> str:
    texts = [" ".join(p.text.split()) for p in constitution.principles]
    return "\n\n".join([f"# {' '.join(constitution.name.split())}", *texts]) + "\n"


PROSE = Format(
    about="prose in Markdown or plain text (.md, .txt)",
    detect=lambda source: source.path.suffix in ENDINGS and not is_list(source.text),
    read=_read,
    write=_write,
    any_text=True,
)

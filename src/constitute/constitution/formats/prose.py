"""Prose, in Markdown or plain: the sentences that ask something of a model, each a principle."""

from __future__ import annotations

import re

from constitute.constitution.formats.asks import not_english
from constitute.constitution.formats.base import Draft, Format, Found, LeftOut, Source
from constitute.constitution.formats.blocks import blocks
from constitute.constitution.formats.lists import is_list
from constitute.constitution.formats.sections import Asked, Section, asked, demands, plain, sections, size
from constitute.constitution.formats.sentences import sentences
from constitute.constitution.read import slug
from constitute.errors import DataError
from constitute.types import Constitution

ENDINGS = (".md", ".markdown", ".txt", ".rst", ".text")
LANGUAGE = (
    "the text does not read as English, and only English sentences are recognised as asking for something; "
    "write the principles as a list, one an item, and import it with --format list"
)
NO_PRINCIPLE = "a heading over no principle"
# "It says so", and not "It is important that …".
_DANGLES = re.compile(
    r"it\b(?= )(?! (?:is|was|would be|will be)\b(?! (?:not )?(?:an?|the)\b)| takes\b"
    r"| (?:should|must|needs to|has to|can) be (?:\w+ )?(?:noted|said|clear|understood|remembered)\b)",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"\b(?:(?:the|our) (?:ai )?(?:assistant|model|chat ?bot|bot|agent|helper)|claude)\b(?!['’-])",
    re.IGNORECASE,
)
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
    first = next((block.text for block in section.blocks if block.kind == "paragraph"), "")
    named_first = _MODEL.search(plain(first[slice(*sentences(first)[0])])) if first.strip() else None
    drafts = []
    for unit in (Asked(each.line, text) for each in units if each.text for text in demands(each.text)):
        text, dangles = _with_subject(unit.text, named_first[0] if named_first else "")
        drafts.append(
            Draft(
                text=text,
                id=short_id(text),
                tags=tags,
                source=f"{source.path.name}, line {unit.line}",
                draft=dangles,
            )
        )
    return drafts, left


def _with_subject(text: str, whom: str) -> tuple[str, bool]:
    """The text with `whom` for the "it" it begins with, and whether an "it" of nobody stays."""
    found = _DANGLES.match(text)
    if found is None or not whom:
        return text, found is not None
    return f"{whom[0].upper()}{whom[1:]}{text[found.end() :]}", False


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

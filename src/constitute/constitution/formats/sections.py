"""What a Markdown document asks for, section by section, and all that is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from constitute.constitution.formats.asks import ALLOWS, NOTHING, why_not
from constitute.constitution.formats.base import LeftOut
from constitute.constitution.formats.blocks import Block
from constitute.constitution.formats.sentences import sentences

# A list goes into the principle that leads it in up to this many words; one of more gives one for each item.
MOST_WORDS = 80
_KINDS = {
    "fence": "a block of code",
    "commentary": "commentary",
    "markup": "markup",
    "table": "a table",
    "front": "settings of the page",
}
# A sentence that begins so cannot be read without the one before it.
_LEANS = re.compile(
    r"[\"'“‘(]*(?:it|they|this|these|those|such|otherwise|instead|in (?:this|these|those|such|that|either)\b"
    r"|doing so|if so|if not|for (?:example|instance)|e\.g\.|similarly|likewise|conversely|as such)\b",
    re.IGNORECASE,
)
# A lead-in that an item completes: "The assistant should: …".
_UNFINISHED = re.compile(r"(?:should|must|shall|to|not|never|always)[\s*_]*$", re.IGNORECASE)
# What a sentence that asks means, or where it does not hold: it goes with it, or the principle says too much.
_EXPLAINS = re.compile(
    r"(?:this|that|these|it)\b(?: \w+){0,2} (?:includes?|means|appl(?:y|ies)|covers?|extends?)\b"
    r"|no exceptions\b"
    r"|it (?:never|always) |it (?!is\b|was\b|has\b)\w+(?:s|n['’]t) ",
    re.IGNORECASE,
)
_EXCEPTS = re.compile(r"(?:however|but|that said|still|nevertheless|except)\b", re.IGNORECASE)
_COMMENT = re.compile(r"[\s(*_\[]*(?:commentary|author'?s'? note|editor'?s'? note)\b[\s*_]*:", re.IGNORECASE)


@dataclass
class Asked:
    """A text that asks for something, and its line."""

    line: int
    text: str


@dataclass
class Section:
    """A heading with the blocks up to the next one; `path` are the headings above it."""

    heading: Block | None
    path: tuple[Block, ...] = ()
    blocks: list[Block] = field(default_factory=list)

    @property
    def title(self) -> str:
        return plain(self.heading.text) if self.heading else ""

    @property
    def line(self) -> int:
        return self.heading.line if self.heading else 1


def size(text: str) -> int:
    """The characters of a text that are not white space."""
    return len("".join(text.split()))


def sections(found: Sequence[Block]) -> list[Section]:
    """The sections of a document, the first without a heading."""
    listed = [Section(None)]
    above: list[Block] = []
    for block in found:
        if block.kind == "heading":
            above = [each for each in above if each.level < block.level]
            listed.append(Section(block, tuple(above)))
            above.append(block)
        else:
            listed[-1].blocks.append(block)
    return listed


def asked(blocks: Sequence[Block], titles: Mapping[str, str]) -> tuple[list[Asked], list[LeftOut]]:
    """What the paragraphs and lists among `blocks` ask for, and what of them is left out, both in order.

    A sentence that leans on the one before it ("It should …") takes it along. A list whose lead-in asks goes
    with it. Other kinds of block are left out whole.
    """
    took: list[Asked] = []
    left: list[LeftOut] = []
    at = 0
    while at < len(blocks):
        block = blocks[at]
        at += 1
        if block.kind not in ("paragraph", "item"):
            left.append(LeftOut(block.line, _KINDS[block.kind], block.text))
        elif _COMMENT.match(block.text):
            left.append(LeftOut(block.line, "commentary", block.text))
        elif block.kind == "paragraph" and _leads(block.text):
            items = _run(blocks, at)
            at += len(items)
            _led(block, items, took, left)
        else:
            _sentences(block, took, left)
    return ([Asked(each.line, plain(each.text, titles)) for each in took], left)


def _run(blocks: Sequence[Block], at: int) -> list[Block]:
    end = at
    while end < len(blocks) and blocks[end].kind == "item":
        end += 1
    return list(blocks[at:end])


def _leads(text: str) -> bool:
    """Whether the last sentence asks and announces a list."""
    if not text.rstrip(" *_").endswith(":"):
        return False
    start, end = sentences(text)[-1]
    return not why_not(text[start:end])


def _led(block: Block, items: list[Block], took: list[Asked], left: list[LeftOut]) -> None:
    """A paragraph and the list that its last sentence leads in."""
    if not items:
        _sentences(block, took, left)
        return
    start, _ = sentences(block.text)[-1]
    lead, line = block.text[start:], block.line + block.text.count("\n", 0, start)
    if start:
        _sentences(Block("paragraph", block.line, [block.text[:start]]), took, left)
    if len(lead.split()) + sum(len(item.text.split()) for item in items) <= MOST_WORDS:
        least = min(item.level for item in items)
        rows = [f"{'  ' * (item.level > least)}- {' '.join(item.text.split())}" for item in items]
        took.append(Asked(line, "\n".join([lead, *rows])))
        return
    words = lead.rstrip(" *_").removesuffix(":")
    if not _UNFINISHED.search(words) and not any(why_not(item.text) for item in items):
        left.append(LeftOut(line, "leads in a list whose items stand for themselves", lead))
        for item in items:
            _sentences(item, took, left)
        return
    took += [Asked(item.line, f"{words}: {item.text}") for item in items]


def _sentences(block: Block, took: list[Asked], left: list[LeftOut]) -> None:
    text = block.text
    spans = sentences(text)
    line, counted = block.line, 0
    skipped: LeftOut | None = None
    begun = len(took)
    for start, end in spans:
        line += text.count("\n", counted, start)
        counted = start
        words = text[start:end]
        reason = why_not(words)
        if reason and skipped is None and len(took) > begun and _completes(words, reason):
            took[-1].text += f" {words}"
            continue
        if reason:
            skipped = LeftOut(line, reason, words)
            left.append(skipped)
            continue
        if (
            _LEANS.match(words)
            and skipped is not None
            and left[-1] is skipped
            and skipped.reason in (NOTHING, ALLOWS)
        ):
            left.pop()
            took.append(Asked(skipped.line, f"{skipped.text} {words}"))
        elif _LEANS.match(words) and skipped is None and len(took) > begun and _fits(took[-1].text, words):
            took[-1].text += f" {words}"
        else:
            took.append(Asked(line, words))
        skipped = None


def _completes(words: str, reason: str) -> bool:
    """Whether a sentence that asks for nothing tells more of the one before it, or where it does not hold."""
    return bool(_EXPLAINS.match(words)) or (reason == ALLOWS and bool(_EXCEPTS.match(words)))


def _fits(before: str, more: str) -> bool:
    return len(before.split()) + len(more.split()) <= MOST_WORDS


def plain(text: str, titles: Mapping[str, str] | None = None) -> str:
    """Markdown as plain words on one line: links as their words, `[?](#id)` as the title it leads to."""

    def link(found: re.Match[str]) -> str:
        if found[1] == "?":
            name = found[2].lstrip("#")
            return f"“{(titles or {}).get(name, name)}”"
        return found[1]

    text = re.sub(r"\[\^[^\]\s]{1,60}\]", "", text)
    text = re.sub(r"\[([^\[\]]{1,400})\]\(([^()\s]{0,2000})\)", link, text)
    text = text.replace("**", "").replace("__", "")
    text = re.sub(r"(?<![\w*])\*(\S[^*\n]{0,300}?)\*(?![\w*])", r"\1", text)
    lines = [line.rstrip() for line in text.split("\n")]
    listed = [f"\n{line}" if re.match(r" *- ", line) else f" {line.strip()}" for line in lines if line]
    return "".join(listed).strip()

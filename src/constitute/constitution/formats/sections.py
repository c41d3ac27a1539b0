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
_CELLS = re.compile(r"(?<!\\)\|")
_SPOKEN = re.compile(
    r"[*_\s]*(?:(?:do not|don['’]t|never|not|instead of|rather than) )?"
    r"(?:say|says|write|examples?|example reply|repl(?:y|ies)|answers?|phrases?|wording|why|reason)\b",
    re.IGNORECASE,
)
# Another demand of one sentence begins: "…, and must not …", "…; never …".
_JOINT = re.compile(
    r"(?:;|,)(?: (?:and|but))? (?=(?:(?:it|the assistant) )?(?:must|should|shall|may not|cannot|never)\b"
    r"|(?:do not|don['’]t)\b)",
    re.IGNORECASE,
)
_WHOSE = re.compile(
    r"((?:the|our) [\w-]+|it|you|claude|replies|answers|responses) "
    r"(?:(?:must|should|shall|can|may|will|never|cannot)\b|\w+s\b)",
    re.IGNORECASE,
)
_ON_CONDITION = re.compile(
    r"(?:if|when|where|unless|while|once|before|after|in|for|whenever)\b", re.IGNORECASE
)
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
        if block.kind == "table":
            _table(block, took, left)
        elif block.kind not in ("paragraph", "item"):
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


def demands(text: str) -> list[str]:
    """The demands of one sentence, where each stands alone with the sentence's subject; else the text.

    A condition before the first may hold for all, and so such a sentence stays whole.
    """
    parts = _JOINT.split(text)
    whose = _WHOSE.match(text)
    if len(parts) < 2 or len(sentences(text)) > 1 or "\n" in text or _ON_CONDITION.match(text):
        return [text]
    made = [parts[0]]
    for part in parts[1:]:
        first = part.split()[0].lower()
        if first in ("it", "never", "do", "don't", "don’t") or first == "the":
            own = part
            if whose and first == "it":
                own = f"{whose[1]}{part[2:]}"
            elif whose and first == "never":
                own = f"{whose[1]} must {part}"
        elif whose:
            own = f"{whose[1]} {part}"
        else:
            return [text]
        made.append(own[0].upper() + own[1:])
    made = [each if each.endswith((".", "!", "…", "”")) else f"{each}." for each in made]
    return [text] if any(why_not(each) for each in made) else made


def _table(block: Block, took: list[Asked], left: list[LeftOut]) -> None:
    """The cells of a table that ask, each behind its row's first; a row without one is left out whole.

    A column of wordings, "Say", "Example", is not read.
    """
    rows = [[cell.strip() for cell in _CELLS.split(part.strip("| "))] for part in block.parts]
    ruled = len(rows) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
    spoken = [bool(ruled and _SPOKEN.match(title)) for title in rows[0]]
    asks = [
        [] if ruled and at < 2 else [n for n, cell in enumerate(row) if _cell_asks(cell, n, spoken)]
        for at, row in enumerate(rows)
    ]
    if not any(asks):
        left.append(LeftOut(block.line, _KINDS["table"], block.text))
        return
    idle: list[str] = []
    for at, (row, asking) in enumerate(zip(rows, asks, strict=True)):
        line = block.line + at
        if not asking:
            idle.append(block.parts[at])
            if at + 1 == len(rows) or asks[at + 1]:
                begun = line - len(idle) + 1
                left.append(LeftOut(begun, "rows of a table that ask for nothing", "\n".join(idle)))
                idle = []
            continue
        topic = row[0] if 0 not in asking else ""
        took += [Asked(line, f"{topic}: {row[n]}" if topic else row[n]) for n in asking]
        rest = [cell for n, cell in enumerate(row) if cell and n not in asking and not (n == 0 and topic)]
        left += [LeftOut(line, "a cell of a table that asks for nothing", cell) for cell in rest]


def _cell_asks(cell: str, column: int, spoken: Sequence[bool]) -> bool:
    said = column < len(spoken) and spoken[column]
    return not said and bool(cell) and any(not why_not(cell[a:b]) for a, b in sentences(cell))


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

"""Read Markdown as blocks with their lines: headings, paragraphs, list items, fences, and all else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["heading", "paragraph", "item", "fence", "commentary", "markup", "table", "front"]

_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?: +|$)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!|<\?")
_TURN = re.compile(r"<(?:system|developer|user|assistant|tool|comparison)\b[^<>]*>")
_ATTRIBUTES = re.compile(r"\{([^{}]*)\}$")


@dataclass
class Block:
    """One block: where it begins, and its text without marks. `level` is a heading's, or an item's indent."""

    kind: Kind
    line: int
    parts: list[str] = field(default_factory=list)
    level: int = 0
    id: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.parts)


def heading(line: str) -> tuple[int, str] | None:
    """The level and the words of a line that is a Markdown heading."""
    level = len(line) - len(line.lstrip("#"))
    if not 1 <= level <= 6 or line[level : level + 1] not in (" ", "\t"):
        return None
    words = line[level:].strip()
    bare = words.rstrip("#")
    return level, (bare.rstrip() if not bare or bare[-1] in " \t" else words)


def blocks(text: str) -> list[Block]:
    """The blocks of a text in order. Every word of the text stands in exactly one of them."""
    return _Reader(text.split("\n")).read()


class _Reader:
    """Reads line by line; `open` is the block that a next line would go on with."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.found: list[Block] = []
        self.open: Block | None = None
        self.last: dict[str, int] = {}

    def read(self) -> list[Block]:
        if self.lines[0].strip() == "---":
            ends = (n for n, line in enumerate(self.lines[1:200], 1) if line.strip() in ("---", "..."))
            if end := next(ends, 0):
                self._take("front", end + 1)
        while self.at < len(self.lines):
            self._line(self.lines[self.at].replace("\t", "    "))
        return self.found

    def _line(self, line: str) -> None:
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if not bare:
            self._blank()
        elif bare[:3] in ("```", "~~~"):
            self._fence(bare)
        elif bare.startswith(("!!!", ":::")):
            self._commentary(bare, indent)
        elif indent < 4 and (title := heading(bare)):
            self._heading(*title)
        elif self._is_underline(bare):
            level = 1 if bare[0] == "=" else 2
            words = self.found.pop().text
            self._heading(level, words, self.at - words.count("\n"))
        elif bare.startswith("<") and (found := _TAG.match(bare)):
            self._markup(bare, turn=bool(_TURN.match(found[0])))
        elif bare.startswith("|"):
            self._go_on("table", bare)
        elif _rule(bare):
            self._close()
        elif marker := _ITEM.match(bare):
            self.open = Block("item", self.at + 1, [bare[marker.end() :]], indent)
            self.found.append(self.open)
            self.at += 1
        else:
            self._go_on("paragraph", re.sub(r"^(?:> ?)+", "", bare))

    def _close(self) -> None:
        self.open = None
        self.at += 1

    def _blank(self) -> None:
        """A blank line ends a block; an item goes on where the next line is indented."""
        following = self.lines[self.at + 1] if self.at + 1 < len(self.lines) else ""
        if self.open is None or self.open.kind != "item" or not following.startswith(("  ", "\t")):
            self.open = None
        elif self.open.parts[-1]:
            self.open.parts.append("")
        self.at += 1

    def _go_on(self, kind: Kind, words: str) -> None:
        goes_on = self.open is not None and (self.open.kind == kind or self.open.kind == "item" != kind)
        if goes_on and self.open is not None and not (kind == "table" and self.open.kind == "item"):
            self.open.parts.append(words)
        else:
            self.open = Block(kind, self.at + 1, [words])
            self.found.append(self.open)
        self.at += 1

    def _is_underline(self, bare: str) -> bool:
        return (
            self.open is not None
            and self.open.kind == "paragraph"
            and len(self.open.parts) == 1
            and bool(bare.strip("=") == "" or (bare.strip("-") == "" and len(bare) > 1))
        )

    def _heading(self, level: int, words: str, line: int | None = None) -> None:
        block = Block("heading", self.at + 1 if line is None else line, level=level)
        if found := _ATTRIBUTES.search(words):
            for each in found[1].split():
                key, equals, value = each.partition("=")
                if equals:
                    block.attributes[key] = value.strip("\"'")
                elif each.startswith("#"):
                    block.id = each[1:]
                else:
                    block.attributes[each.lstrip(".")] = ""
            words = words[: found.start()].rstrip()
        block.parts = [words]
        self.found.append(block)
        self._close()

    def _fence(self, bare: str) -> None:
        """A fence ends at a line of its own mark, or where the text ends."""
        mark = bare[: len(bare) - len(bare.lstrip(bare[0]))]
        end = self.at + 1
        while end < len(self.lines):
            line = self.lines[end].strip()
            if line.startswith(mark) and not line.strip(mark[0]):
                break
            end += 1
        self._take("fence", end + 1 - self.at)

    def _commentary(self, bare: str, indent: int) -> None:
        """`!!!` with its indented lines; `:::` up to the next line of it alone."""
        end = self.at + 1
        if bare.startswith(":::"):
            while end < len(self.lines) and self.lines[end].strip() != ":::":
                end += 1
            end += 1
        else:
            last = end
            while end < len(self.lines):
                line = self.lines[end].replace("\t", "    ")
                if line.strip():
                    if len(line) - len(line.lstrip()) < indent + 2:
                        break
                    last = end + 1
                end += 1
            end = last
        self._take("commentary", end - self.at)

    def _markup(self, bare: str, turn: bool) -> None:
        """A comment up to its end; turns of a conversation up to the last; other tags up to a blank line."""
        end = self.at
        if bare.startswith("<!--"):
            while end < len(self.lines) and "-->" not in self.lines[end]:
                end += 1
            end += 1
        elif turn:
            end = self._turns()
        else:
            while end < len(self.lines) and self.lines[end].strip():
                end += 1
        self._take("fence" if turn else "markup", end - self.at)

    def _turns(self) -> int:
        """The line after the last of the turns that begin here."""
        end = self.at
        while end < len(self.lines):
            line = self.lines[end].strip()
            found = _TURN.match(line)
            if line and not found:
                break
            if found:
                closing = f"</{re.split(r'[ >]', found[0][1:])[0]}>"
                if closing not in self.last:
                    ends = [n for n, each in enumerate(self.lines) if closing in each]
                    self.last[closing] = ends[-1] if ends else -1
                if end > self.last[closing]:
                    # Never closed: the tag alone is markup.
                    return max(end, self.at + 1)
                while closing not in self.lines[end]:
                    end += 1
                last = end + 1
            end += 1
        return last

    def _take(self, kind: Kind, count: int) -> None:
        self.found.append(Block(kind, self.at + 1, self.lines[self.at : self.at + count]))
        self.open = None
        self.at += count


def _rule(bare: str) -> bool:
    squeezed = bare.replace(" ", "")
    return len(squeezed) >= 3 and squeezed[0] in "-*_" and not squeezed.strip(squeezed[0])

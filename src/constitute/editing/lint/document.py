"""Lay out a constitution file for the rules that read it: texts, places and comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from constitute.constitution.read import FORMS, read_constitution
from constitute.strict_yaml import Node, Problem, shorten
from constitute.types import Constitution

Place = tuple[int, int]
TEXTS = ("text", *FORMS)

_ALLOW = re.compile(r"(?:^|\s)(# lint: allow\b[ \t]*((?:[\w-]+[ \t,]*)*))")


@dataclass(frozen=True)
class Entry:
    """A principle as it is written: forms that the file leaves out are not in `texts`.

    `places` has the line and column of every key's value and, under "", of the principle itself;
    `tags` has each tag with its place, `examples` each text of its examples with its key
    and place; `end` the line after its last.
    """

    id: str
    end: int
    texts: dict[str, str]
    places: dict[str, Place]
    tags: list[tuple[str, Place]]
    weight: float
    examples: tuple[tuple[str, str, Place], ...] = ()

    def place(self, key: str) -> Place:
        """Where the value of `key` stands, or the principle where it has none."""
        return self.places.get(key, self.places[""])


@dataclass(frozen=True)
class Allowed:
    """A comment `# lint: allow RULE, RULE`, and the number (from 0) of the principle it is about, if any."""

    line: int
    column: int
    rules: tuple[str, ...]
    entry: int | None


@dataclass(frozen=True)
class Document:
    """What the rules read of one file; `constitution` is there only where nothing is wrong with it."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    allowed: tuple[Allowed, ...] = ()
    constitution: Constitution | None = None
    readable: bool = False


@dataclass(frozen=True)
class Remark:
    """What a rule found: in which entry (None: the file's), at which place."""

    entry: int | None
    place: Place
    message: str
    fix: str
    figure: dict[str, float] = field(default_factory=dict)


def read_document(data: bytes) -> Document:
    """The document of a file's bytes. Never raises: what cannot be read is in `problems`."""
    constitution, root, problems = read_constitution(data)
    if root is None:
        return Document(problems=tuple(sorted(problems)))
    listed = root.entries.get("principles")
    nodes = [node for node in listed.items if node.kind == "mapping"] if listed else []
    lines = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts = [*(node.line for node in nodes), len(lines) + 1]
    entries = tuple(_entry(node, end) for node, end in zip(nodes, starts[1:], strict=True))
    return Document(entries, tuple(sorted(problems)), tuple(_allowed(lines, entries)), constitution, True)


def _entry(node: Node, end: int) -> Entry:
    places = {key: (value.line, value.column) for key, value in node.entries.items()}
    identity, weight = _scalar(node, "id"), _scalar(node, "weight")
    texts = {key: value.strip() for key in TEXTS if isinstance(value := _scalar(node, key), str)}
    tags = _listed(node.entries["tags"]) if "tags" in node.entries else []
    return Entry(
        id=identity.strip() if isinstance(identity, str) else "",
        end=end,
        texts={key: value for key, value in texts.items() if value},
        places={**places, "": (node.line, node.column)},
        tags=tags,
        weight=float(weight) if isinstance(weight, (int, float)) else 1.0,
        examples=tuple(_examples(node.entries["examples"])) if "examples" in node.entries else (),
    )


def _examples(node: Node) -> Iterator[tuple[str, str, Place]]:
    for example in node.items:
        for key, value in example.entries.items():
            if isinstance(value.scalar, str):
                yield key, value.scalar.strip(), (value.line, value.column)


def _scalar(node: Node, key: str) -> object:
    value = node.entries.get(key)
    return value.scalar if value is not None and value.kind == "scalar" else None


def _listed(node: Node) -> list[tuple[str, Place]]:
    return [
        (item.scalar.strip(), (item.line, item.column))
        for item in node.items
        if isinstance(item.scalar, str) and item.scalar.strip()
    ]


def _allowed(lines: Sequence[str], entries: Sequence[Entry]) -> list[Allowed]:
    """The comments that allow a rule; the same words inside a text are no comment."""
    found = []
    for number, line in enumerate(lines, 1):
        if "# lint: allow" not in line or not (match := _ALLOW.search(line)):
            continue
        at = _speaks_of(number, lines, entries)
        nearby = entries[max(0, (at or 0) - 1) : (at or 0) + 1]
        written = [
            text for entry in nearby for text in (*entry.texts.values(), *(e[1] for e in entry.examples))
        ]
        if any(match[1].strip() in text for text in written):
            continue
        rules = tuple(name for name in re.split(r"[,\s]+", match[2]) if name)
        found.append(Allowed(number, match.start(1) + 1, rules, at))
    return found


def _speaks_of(number: int, lines: Sequence[str], entries: Sequence[Entry]) -> int | None:
    """The entry whose lines hold line `number`, or whose first line follows it after comments alone."""
    after = number
    while after <= len(lines) and lines[after - 1].lstrip().startswith("#"):
        after += 1
    for at, entry in enumerate(entries):
        if after == entry.places[""][0] or entry.places[""][0] <= number < entry.end:
            following = at + 1 < len(entries) and after == entries[at + 1].places[""][0] and after > number
            return at + 1 if following else at
    return None


def quoted(text: str, limit: int = 40) -> str:
    """A piece of a text for a message."""
    return repr(shorten(text, limit))

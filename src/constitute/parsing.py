"""Read strict YAML into nodes that know their line and column, for files that people write by hand.

Aliases, tags, directives, several documents, duplicate keys, deep nesting and large files are refused:
none of them has a use in such a file, and each has been used to break a loader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from constitute.errors import DataError

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

# Control characters other than tab and newline; lone surrogates cannot be encoded at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# YAML 1.2 core schema (yaml.org/spec/1.2.2, section 10.3.2): `no` and `off` are text, not booleans.
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = ("", "~", "null", "Null", "NULL")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


class Problem(NamedTuple):
    """One thing wrong in a file: 1-based line and column, and a sentence of what and how to mend it."""

    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Node:
    """A YAML value and where it starts (1-based). `keys` holds the node of each key of a mapping."""

    kind: Literal["scalar", "list", "mapping"]
    line: int
    column: int
    scalar: str | int | float | bool | None = None
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Node] = field(default_factory=dict)

    def describe(self) -> str:
        """The value in the words of somebody who reads the file."""
        if self.kind != "scalar":
            return f"a {self.kind}"
        if self.scalar is None:
            return "nothing"
        if isinstance(self.scalar, bool):
            return f"the truth value {str(self.scalar).lower()}"
        if isinstance(self.scalar, (int, float)):
            return f"the number {self.scalar}"
        return f"the text {shorten(self.scalar)!r}"


class _Stop(Exception):
    """Ends the reading at the first problem of syntax."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line, column, text)


def shorten(text: str, limit: int = 60) -> str:
    """`text` on one line, cut to `limit` characters for a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def fail(name: str | Path, problems: list[Problem], shown: int = 20) -> DataError:
    """The error for `problems` of one file, one line each as `file:line:column: what; fix`."""
    lines = [f"{name}:{p.line}:{p.column}: {p.text}" for p in sorted(problems)[:shown]]
    if len(problems) > shown:
        lines.append(f"{name}: and {len(problems) - shown} more")
    return DataError("\n".join(lines))


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file of at most `limit` bytes; `DataError` beyond it, `OSError` where unreadable."""
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise fail(path, [Problem(1, 1, f"the file is larger than {limit:,} bytes; split it or shorten it")])
    return data


def decode(data: bytes, name: str | Path) -> str:
    """`data` as UTF-8 text with `\\n` line ends; `DataError` names the first character that cannot stand."""
    for mark, encoding in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\xef\xbb\xbf", "")):
        if data.startswith(mark):
            what = f"is {encoding}" if encoding else "starts with a byte-order mark"
            raise fail(name, [Problem(1, 1, f"the file {what}; save it as UTF-8 without a byte-order mark")])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        line, column = _position(data[: problem.start].decode("utf-8"))
        byte = data[problem.start]
        raise fail(
            name, [Problem(line, column, f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8")]
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := _CONTROL.search(text):
        line, column = _position(text[: found.start()])
        raise fail(
            name, [Problem(line, column, f"control character U+{ord(found[0]):04X} in the file; remove it")]
        )
    return text


def parse_yaml(data: bytes, name: str | Path) -> Node:
    """The one document of a YAML file. Raises `DataError` as `file:line:column: what; fix`."""
    text = decode(data, name)
    try:
        return _document(text)
    except _Stop as stop:
        raise fail(name, [stop.problem]) from None


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar under the YAML 1.2 core schema."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    # Python refuses to read integers of thousands of digits; no file of ours needs more than a few.
    if len(text) <= 30 and _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= 30 and _FLOAT.fullmatch(text):
        return float(text)
    return text


def _document(text: str) -> Node:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    events = YAML(typ="safe", pure=True).parse(text)
    last = [1, 1]
    try:
        return _compose(_Events(events, last))
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (last[0], last[1])
        raise _Stop(line, column, _explain(text, line, str(problem.problem or problem.context))) from None
    except (YAMLError, ValueError, OverflowError) as problem:
        # The scanner turns escapes such as "\U99999999" into characters without checking them first.
        raise _Stop(
            last[0], last[1], f"cannot be read after this point ({problem}); write it plainly"
        ) from None


def _explain(text: str, line: int, problem: str) -> str:
    row = [*text.split("\n"), ""][line - 1]
    if "\t" in row[: len(row) - len(row.lstrip())] or "'\\t'" in problem:
        return "a tab is used for indentation; use spaces"
    if "mapping values are not allowed" in problem:
        return "a colon stands inside an unquoted text; put the text in double quotes"
    return f"this is not YAML ({problem}); check the indentation, quotes and brackets here and just above"


class _Events:
    """The events of a parser, one ahead, with the position of the last one seen."""

    def __init__(self, events: Any, last: list[int]) -> None:
        self._events, self._last = iter(events), last

    def next(self) -> tuple[str, Any]:
        event = next(self._events)
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        self._last[:] = line, column
        kind = type(event).__name__.removesuffix("Event")
        if kind == "Alias":
            raise _Stop(
                line, column, f"the alias *{shorten(str(event.anchor))} is not allowed; write the value out"
            )
        if getattr(event, "anchor", None) is not None:
            raise _Stop(line, column, f"the anchor &{shorten(str(event.anchor))} is not allowed; remove it")
        if getattr(event, "ctag", None) is not None:
            raise _Stop(line, column, f"the tag {shorten(str(event.ctag))} is not allowed; remove it")
        if kind == "DocumentStart" and (event.version or event.tags):
            raise _Stop(line, column, "directives (%) are not allowed; remove the line")
        return kind, event


def _compose(events: _Events) -> Node:
    events.next()
    kind, event = events.next()
    if kind == "StreamEnd":
        raise _Stop(1, 1, "the file holds nothing; write the keys it needs")
    root = _node(events, *events.next(), depth=1)
    events.next()
    kind, event = events.next()
    if kind != "StreamEnd":
        raise _Stop(event.start_mark.line + 1, 1, "a second document starts here; keep one and remove ---")
    return root


def _node(events: _Events, kind: str, event: Any, depth: int) -> Node:
    line, column = event.start_mark.line + 1, event.start_mark.column + 1
    if kind == "Scalar":
        return _scalar(event, line, column)
    if depth > MAX_DEPTH:
        raise _Stop(line, column, f"nested more than {MAX_DEPTH} deep; flatten it")
    if kind == "SequenceStart":
        node = Node("list", line, column)
        while (following := events.next())[0] != "SequenceEnd":
            node.items.append(_node(events, *following, depth=depth + 1))
        return node
    node = Node("mapping", line, column)
    while (following := events.next())[0] != "MappingEnd":
        key = _node(events, *following, depth=depth + 1)
        if key.kind != "scalar" or not isinstance(key.scalar, str):
            raise _Stop(key.line, key.column, f"a key must be text, not {key.describe()}; quote it")
        if first := node.keys.get(key.scalar):
            raise _Stop(
                key.line,
                key.column,
                f"the key {key.scalar!r} is given twice (first on line {first.line}); remove one",
            )
        value = _node(events, *events.next(), depth=depth + 1)
        if value.kind == "scalar" and value.scalar is None:
            # An absent value is marked where the next token starts, often lines below its key.
            value = Node("scalar", key.line, key.column)
        node.entries[key.scalar] = value
        node.keys[key.scalar] = key
    return node


def _scalar(event: Any, line: int, column: int) -> Node:
    value = resolve(event.value) if event.implicit[0] else event.value
    if isinstance(value, str) and (found := _CONTROL.search(value)):
        raise _Stop(line, column, f"control character U+{ord(found[0]):04X} in this text; remove it")
    return Node("scalar", line, column, scalar=value)


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1

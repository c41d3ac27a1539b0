"""Read strict YAML into nodes that know their line and column, for files that people write by hand.

Aliases, tags, directives, several documents, duplicate keys, deep nesting and large files are refused:
such a file needs none of them, and each has been used to break a loader.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from constitute.errors import DataError

MAX_BYTES = 4_000_000
MAX_DEPTH = 20
MAX_PROBLEMS = 200

# Control characters other than tab and newline; lone surrogates and non-characters are no text at all.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff\ufffe\uffff]")
# YAML 1.2 core schema (yaml.org/spec/1.2.2, section 10.3.2): `no` and `off` are text, not booleans.
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = ("", "~", "null", "Null", "NULL")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


class Problem(NamedTuple):
    """One thing wrong in a file: 1-based line and column, and `what; fix`, where no fix holds a semicolon."""

    line: int
    column: int
    text: str

    @property
    def what(self) -> str:
        """What is wrong, without the fix."""
        return self.text.rpartition("; ")[0]

    @property
    def fix(self) -> str:
        """How to mend it."""
        return self.text.rpartition("; ")[2]


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

    def plain(self) -> Any:
        """The value as Python's own lists, dictionaries and scalars."""
        if self.kind == "list":
            return [item.plain() for item in self.items]
        if self.kind == "mapping":
            return {key: value.plain() for key, value in self.entries.items()}
        return self.scalar

    def at(self, keys: Sequence[int | str]) -> Node:
        """The node that a path of keys and positions leads to."""
        node = self
        for key in keys:
            node = node.items[key] if isinstance(key, int) else node.entries[key]
        return node

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
    """`data` as UTF-8 text with `\\n` line ends; `DataError` names the first character that cannot stand.

    A UTF-8 byte-order mark at the start, which some editors write, is left out.
    """
    try:
        return _decoded(data)
    except _Stop as stop:
        raise fail(name, [stop.problem]) from None


def parse_yaml(data: bytes, name: str | Path, *, escapes: bool = False) -> Node:
    """The one document of a YAML file. Raises `DataError` as `file:line:column: what; fix`."""
    node, problems = read_yaml(data, escapes=escapes)
    if problems or node is None:
        raise fail(name, problems)
    return node


def read_yaml(data: bytes, *, escapes: bool = False) -> tuple[Node | None, list[Problem]]:
    """The one document of a YAML file and what is wrong with its syntax, in no set order.

    A file without a document is a scalar without a value. After an alias, a tag or a key given twice the
    reading continues, and the node holds the rest; it is None where the reading had to stop. With `escapes`
    a quoted text may name a control character, such as "\\r".
    """
    problems: list[Problem] = []
    try:
        return _document(_decoded(data), problems, _NO_TEXT if escapes else CONTROL), problems
    except _Stop as stop:
        return None, [*problems, stop.problem]


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Stop(1, 1, "the file is UTF-16; save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        line, column = _position(_lines(data[: problem.start].decode("utf-8")))
        byte = data[problem.start]
        raise _Stop(line, column, f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None
    text = _lines(text)
    if found := CONTROL.search(text):
        line, column = _position(text[: found.start()])
        raise _Stop(line, column, f"control character U+{ord(found[0]):04X} in the file; remove it")
    return text


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


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


def _document(text: str, problems: list[Problem], refused: re.Pattern[str]) -> Node:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    events = _Events(YAML(typ="safe", pure=True).parse(text), text, problems, refused)
    try:
        return _compose(events)
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line, column = events.place(mark) if mark else events.last
        raise _Stop(line, column, _explain(text, line, str(problem.problem or problem.context))) from None
    except (YAMLError, ValueError, OverflowError) as problem:
        # The scanner turns escapes such as "\U99999999" into characters without checking them first.
        said = shorten(str(problem))
        raise _Stop(*events.last, f"cannot be read after this point ({said}); write it plainly") from None


def _explain(text: str, line: int, problem: str) -> str:
    row = [*text.split("\n"), ""][line - 1]
    if "\t" in row[: len(row) - len(row.lstrip())] or "'\\t'" in problem:
        return "a tab is used for indentation; use spaces"
    if "mapping values are not allowed" in problem:
        return "a colon stands inside an unquoted text; put the text in double quotes"
    said = shorten(problem, 120)
    return f"this is not YAML ({said}); check the indentation, quotes and brackets here and just above"


class _Events:
    """The events of a parser, with the position of the last one seen and what was wrong so far.

    `refused` matches the characters that no text may hold.
    """

    def __init__(self, events: Any, text: str, problems: list[Problem], refused: re.Pattern[str]) -> None:
        self._events, self._problems, self.refused = iter(events), problems, refused
        # The parser takes more characters for line ends than editors do; its count of characters is exact.
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self.last = (1, 1)

    def place(self, mark: Any) -> tuple[int, int]:
        """Line and column (1-based) of a mark of the parser."""
        line = bisect_right(self._starts, mark.index)
        return line, mark.index - self._starts[line - 1] + 1

    def problem(self, line: int, column: int, what: str) -> None:
        """Note a problem and go on."""
        if len(self._problems) == MAX_PROBLEMS:
            raise _Stop(line, column, f"more than {MAX_PROBLEMS} problems of syntax; mend those above first")
        self._problems.append(Problem(line, column, what))

    def next(self) -> tuple[str, Any, int, int]:
        """Kind, event, line and column of the next event; what no file may hold is noted as a problem."""
        event = next(self._events)
        line, column = self.last = self.place(event.start_mark)
        kind = type(event).__name__.removesuffix("Event")
        if kind == "Alias":
            what = f"the alias *{shorten(str(event.anchor))} is not allowed; write the value out"
            self.problem(line, column, what)
        elif getattr(event, "anchor", None) is not None:
            self.problem(line, column, f"the anchor &{shorten(str(event.anchor))} is not allowed; remove it")
        if getattr(event, "ctag", None) is not None:
            self.problem(line, column, f"the tag {shorten(str(event.ctag))} is not allowed; remove it")
        if kind == "DocumentStart" and (event.version or event.tags):
            self.problem(line, column, "directives (%) are not allowed; remove the line")
        return kind, event, line, column


def _compose(events: _Events) -> Node:
    events.next()
    if events.next()[0] == "StreamEnd":
        return Node("scalar", 1, 1)
    root = _node(events, *events.next(), depth=1)
    events.next()
    kind, _, line, _ = events.next()
    if kind != "StreamEnd":
        events.problem(line, 1, "a second document starts here; keep one and remove ---")
    return root


def _node(events: _Events, kind: str, event: Any, line: int, column: int, depth: int) -> Node:
    if kind == "Scalar":
        return _scalar(events, event, line, column)
    if kind == "Alias":
        return Node("scalar", line, column, scalar=f"*{event.anchor}")
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
        value = _node(events, *events.next(), depth=depth + 1)
        if key.kind != "scalar" or not isinstance(key.scalar, str):
            events.problem(key.line, key.column, f"a key must be text, not {key.describe()}; quote it")
        elif first := node.keys.get(key.scalar):
            what = f"the key {shorten(key.scalar)!r} is given twice (first on line {first.line}); remove one"
            events.problem(key.line, key.column, what)
        else:
            if value.kind == "scalar" and value.scalar is None:
                # An absent value is marked where the next token starts, often lines below its key.
                value = Node("scalar", key.line, key.column)
            node.entries[key.scalar] = value
            node.keys[key.scalar] = key
    return node


def _scalar(events: _Events, event: Any, line: int, column: int) -> Node:
    value = resolve(event.value) if event.implicit[0] else event.value
    if isinstance(value, str) and (found := events.refused.search(value)):
        events.problem(line, column, f"control character U+{ord(found[0]):04X} in this text; remove it")
        value = events.refused.sub("", value)
    return Node("scalar", line, column, scalar=value)


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1

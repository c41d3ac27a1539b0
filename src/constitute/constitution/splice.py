"""Put one value into the text of a YAML file: every byte outside the value stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from constitute.constitution.write import quoted, scalar

_COMMENT = re.compile(r"\s+#.*")


def spliced(
    text: str, path: Sequence[int | str], key: str, value: str, after: Sequence[str]
) -> Iterator[str]:
    """Texts of the file with `value` under `key` of the mapping at `path`, the best laid out first.

    Where the key is absent it goes below the last of the keys `after` that are there. Whoever takes one
    reads it back: a value may need quotes that the first does not give it. `value` is text, except a
    `weight`, which is written as it is.
    """
    mapping = _at(_compose(text), path)
    column = mapping.value[0][0].start_mark.column
    entries = {name.value: node for name, node in mapping.value}
    ways = [value] if key == "weight" else [scalar(value, column + 2), quoted(value)]
    if mapping.flow_style and key != "weight":
        ways = [quoted(value)]
    end = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    for said in (each.replace("\n", end) for each in ways):
        if key in entries:
            yield _replaced(text, entries[key], column, said, end)
        else:
            above = [name for name in entries if name in after][-1]
            yield _inserted(text, entries[above], column, f"{key}: {said}", end, bool(mapping.flow_style))


def _compose(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).compose(text)


def _at(node: Any, path: Sequence[int | str]) -> Any:
    for step in path:
        node = (
            node.value[step]
            if isinstance(step, int)
            else next(value for name, value in node.value if name.value == step)
        )
    return node


def _replaced(text: str, node: Any, column: int, said: str, end: str) -> str:
    begin, stop = node.start_mark.index, _stop(text, node, column)
    comment = ""
    if _is_block(node) and (found := _COMMENT.search(text[begin : _line_end(text, begin)])):
        comment = found[0]
    first, newline, rest = said.partition(end)
    beside = text[stop : _line_end(text, stop)]
    if newline and _COMMENT.fullmatch(beside):
        # Behind the last line of a block it would be text; it goes beside | or >.
        comment, stop = beside, stop + len(beside)
    return f"{text[:begin]}{first}{comment}{newline}{rest}{text[stop:]}"


def _inserted(text: str, above: Any, column: int, entry: str, end: str, flow: bool) -> str:
    stop = _stop(text, above, column)
    if flow:
        return f"{text[:stop]}, {entry}{text[stop:]}"
    line = _line_end(text, stop)
    return f"{text[:line]}{end}{' ' * column}{entry}{text[line:]}"


def _is_block(node: Any) -> bool:
    return getattr(node, "style", None) in ("|", ">")


def _stop(text: str, node: Any, column: int) -> int:
    """Where a value ends: a block with its last line of text, without the blank lines and comments below."""
    if not _is_block(node):
        return int(node.end_mark.index)
    stop = at = _line_end(text, node.start_mark.index)
    given = re.match(r"[|>][+-]?([1-9])", text[node.start_mark.index : at])
    least = column + int(given[1]) if given else 0
    while at < len(text):
        begin = at + (2 if text[at : at + 2] == "\r\n" else 1)
        at = _line_end(text, begin)
        line = text[begin:at]
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() and indent < (least or column + 1):
            break
        if line.strip() and not least:
            least = indent
        if line.strip():
            stop = at
    return stop


def _line_end(text: str, at: int) -> int:
    """The place of the first line end at or behind `at`."""
    found = re.compile(r"\r\n|\r|\n").search(text, at)
    return found.start() if found else len(text)

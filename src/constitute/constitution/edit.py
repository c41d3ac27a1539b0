"""Edit a constitution's YAML as text, so that every comment and every other byte stays as it was.

Each edit is read back before it is returned: it holds exactly the change asked for, or it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from constitute.constitution.read import FORMS, MAX_WEIGHT, fill_form, parse_constitution, read_constitution
from constitute.constitution.write import entry, free_id, number, quoted, scalar
from constitute.errors import DataError, UsageError
from constitute.strict_yaml import resolve, shorten
from constitute.types import Constitution, Principle

KEYS = ("text", *FORMS, "weight")
_BOM = b"\xef\xbb\xbf"
# What the reader refuses in a file: control characters, lone surrogates and non-characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_BY_HAND = "this file is laid out in a way that cannot be edited safely; edit it by hand"


class _File(NamedTuple):
    """A file's text without byte-order mark, its root node as ruamel composes it, and its line end."""

    text: str
    root: Any
    end: str
    mark: bytes

    def bytes(self, text: str) -> bytes:
        return self.mark + text.encode()


def set_value(data: bytes, principle_id: str, key: str, value: str) -> bytes:
    """The file's bytes with one value of one principle replaced, or inserted where the key is absent.

    `key` is one of `KEYS`. A form that is absent from the file still follows the text. Raises `UsageError`
    for an unknown id or key or a value that cannot stand, `DataError` for a file that cannot be loaded.
    """
    before = parse_constitution(data, "the file")
    by_id = {principle.id: principle for principle in before.principles}
    _known(principle_id, tuple(by_id), "principle")
    _known(key, KEYS, "key")
    value = _checked(key, value)
    file = _open(data)
    at = next(i for i, p in enumerate(before.principles) if p.id == principle_id)
    node = _entries(file.root)["principles"][1].value[at]
    written, flow = _entries(node), bool(node.flow_style)
    edited = (
        _replace(file, written[key], key, value, flow=flow)
        if key in written
        else _insert(file, written, key, value, flow=flow)
    )
    wanted = _changed(by_id[principle_id], set(written) & set(FORMS), key, value)
    principles = tuple(wanted if p.id == principle_id else p for p in before.principles)
    return _verified(file.bytes(edited), before.model_copy(update={"principles": principles}))


def set_name(data: bytes, name: str) -> bytes:
    """The file's bytes under another name."""
    before = parse_constitution(data, "the file")
    name = _checked("name", name)
    file = _open(data)
    edited = _replace(file, _entries(file.root)["name"], "name", name, flow=bool(file.root.flow_style))
    return _verified(file.bytes(edited), before.model_copy(update={"name": name}))


def append(data: bytes, principles: Sequence[Principle]) -> tuple[bytes, int, int]:
    """The file's bytes with `principles` at the end of its list, how many were added and how many skipped.

    One with the text and forms of another, in the file or before it in `principles`, is skipped; an id
    that is taken gets a number. Raises `DataError` where the file cannot be loaded or the list is inline.
    """
    before = parse_constitution(data, "the file")
    taken = {p.id for p in before.principles}
    said = {_words(p) for p in before.principles}
    added: list[Principle] = []
    for principle in principles:
        if _words(principle) in said:
            continue
        said.add(_words(principle))
        added.append(principle.model_copy(update={"id": free_id(principle.id, taken)}))
        taken.add(added[-1].id)
    if not added:
        return data, 0, len(principles)
    file = _open(data)
    listed = _entries(file.root)["principles"][1]
    if listed.flow_style:
        raise DataError(
            f"the principles stand inline in brackets (line {listed.start_mark.line + 1}); "
            "write each on lines of its own with '- id:' first"
        )
    wanted = before.model_copy(update={"principles": (*before.principles, *added)})
    lines = [line for p in added for line in ["", *_shifted(entry(p), listed.start_mark.column)]]
    for place in _places(file, listed):
        try:
            return (
                _verified(file.bytes(_with_lines(file, place, lines)), wanted),
                len(added),
                len(principles) - len(added),
            )
        except DataError:
            continue
    raise DataError(_BY_HAND)


def _known(given: str, known: Sequence[str], what: str) -> None:
    if given in known:
        return
    near = get_close_matches(given.lower(), known, n=1)
    some = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    hint = f"did you mean {near[0]!r}?" if near else f"there are {some}"
    raise UsageError(f"no {what} {shorten(given)!r}; {hint}")


def _checked(key: str, value: str) -> str:
    """The value as it is to be read back: stripped text, or a number as the file writes it."""
    if key == "weight":
        given = resolve(value.strip())
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= MAX_WEIGHT:
            raise UsageError(f"weight must be a number from 0 to {MAX_WEIGHT:.0f}, not {shorten(value)!r}")
        return number(float(given))
    value = value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not value:
        raise UsageError(f"{key} would be empty; give its text")
    if found := _CONTROL.search(value):
        raise UsageError(f"{key} holds the control character U+{ord(found[0]):04X}; remove it")
    return value


def _changed(principle: Principle, written: set[str], key: str, value: str) -> Principle:
    if key == "weight":
        return principle.model_copy(update={"weight": float(value)})
    update = {key: value}
    if key == "text":
        update |= {form: fill_form(form, value) for form in FORMS if form not in written}
    return principle.model_copy(update=update)


def _verified(data: bytes, wanted: Constitution) -> bytes:
    found, _, _ = read_constitution(data)
    if found != wanted:
        raise DataError(_BY_HAND)
    return data


def _open(data: bytes) -> _File:
    from ruamel.yaml import YAML

    mark = _BOM if data.startswith(_BOM) else b""
    text = data.removeprefix(_BOM).decode()
    end = "\r\n" if "\r\n" in text else "\r" if "\r" in text and "\n" not in text else "\n"
    return _File(text, YAML(typ="safe", pure=True).compose(text), end, mark)


def _entries(node: Any) -> dict[str, tuple[Any, Any]]:
    return {key.value: (key, value) for key, value in node.value}


def _replace(file: _File, pair: tuple[Any, Any], key: str, value: str, *, flow: bool) -> str:
    """Put `value` where the old one stands; what follows that on its line, a comment, stays there."""
    name, node = pair
    text, start = file.text, node.start_mark.index
    head_end, after = _extent(file, node)
    # A value on a line of its own or in braces is written on one line: no indentation can go wrong.
    one_line = flow or name.start_mark.line != node.start_mark.line
    head, body = _written(value, key, name.start_mark.column, one_line=one_line)
    rest = text[head_end : _line_end(text, head_end)]
    return text[:start] + head + rest + "".join(file.end + line for line in body) + text[after:]


def _written(value: str, key: str, column: int, *, one_line: bool) -> tuple[str, list[str]]:
    """A value's first line and the lines below it."""
    if key == "weight":
        return value, []
    if one_line:
        return quoted(value), []
    head, *body = scalar(value, column + 2).split("\n")
    return head, body


def _extent(file: _File, node: Any) -> tuple[int, int]:
    """Where the head of a scalar ends on its line, and the end of the last line that belongs to it."""
    text, start = file.text, node.start_mark.index
    if not isinstance(node.value, str) or node.style not in ("|", ">"):
        end = node.end_mark.index
        return end, _line_end(text, end)
    found = re.compile(r"[|>][-+0-9]*").match(text, start)
    head_end = start + (len(found[0]) if found else 0)
    last = _line_end(text, head_end)
    indent: int | None = None
    at = last
    while at < len(text):
        begin = _next_line(text, at)
        at = _line_end(text, begin)
        line = text[begin:at]
        if not line.strip():
            if begin >= len(text):
                break
            continue
        deep = len(line) - len(line.lstrip(" "))
        if indent is None:
            indent = max(deep, 1)
        if deep < indent or begin >= node.end_mark.index:
            break
        last = at
    return head_end, last


def _insert(file: _File, written: dict[str, tuple[Any, Any]], key: str, value: str, *, flow: bool) -> str:
    """Write a key that is absent below the last of the keys that stand before it in the usual order."""
    earlier = [k for k in ("id", *KEYS[: KEYS.index(key)]) if k in written]
    above = max((written[k] for k in earlier), key=lambda pair: pair[1].start_mark.index)
    if flow:
        at = above[1].end_mark.index
        said = value if key == "weight" else quoted(value)
        return file.text[:at] + f", {key}: {said}" + file.text[at:]
    column = above[0].start_mark.column
    head, body = _written(value, key, column, one_line=False)
    place = _extent(file, above[1])[1]
    lines = [" " * column + f"{key}: {head}", *body]
    return file.text[:place] + "".join(file.end + line for line in lines) + file.text[place:]


def _places(file: _File, listed: Any) -> list[int]:
    """Where an entry may be added: the end of the file where the list is last, else below its last line."""
    last = listed.value[-1]
    ends = [_extent(file, leaf)[1] for leaf in _leaves(last)]
    following = file.root.value[-1][1] is not listed
    return [max(ends)] if following else [len(file.text.rstrip(" \t\r\n")), max(ends)]


def _leaves(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return [node]
    children = [child for item in node.value for child in (item if isinstance(item, tuple) else (item,))]
    # The end of an inline list or mapping is its bracket, not its last value.
    own = [node] if node.flow_style else []
    return own + [leaf for child in children for leaf in _leaves(child)]


def _with_lines(file: _File, place: int, lines: Sequence[str]) -> str:
    """Add lines below the line that ends at `place`."""
    head, tail = file.text[:place], file.text[place:]
    tail = tail if tail.startswith(("\r", "\n")) else file.end + tail
    return head + "".join(file.end + line for line in lines) + tail


def _shifted(lines: Sequence[str], column: int) -> list[str]:
    """The lines of an entry written two spaces in, its dash at `column` instead."""
    whole = "\n".join(lines).split("\n")
    return [(" " * column + line[2:]) if line.strip() else line for line in whole]


def _words(principle: Principle) -> tuple[str, ...]:
    return (principle.text, principle.critique, principle.revise, principle.compare)


def _line_start(text: str, at: int) -> int:
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


def _line_end(text: str, at: int) -> int:
    found = re.compile(r"[\r\n]").search(text, at)
    return found.start() if found else len(text)


def _next_line(text: str, at: int) -> int:
    """The start of the line below the line end at `at`."""
    return at + (2 if text.startswith("\r\n", at) else 1)

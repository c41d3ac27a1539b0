"""Edit a constitution file: one change, and every byte outside it as it was.

A value is spliced into the text of the file. Principles are appended by ruamel.yaml's round trip, after which
a text that goes over several lines without `|` or `>` stands on one line, nested lists take the indentation
of the list of principles, and mixed line ends become those of most lines. Each edit is read back before it is
returned: it holds exactly the change asked for and every comment, or it is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from constitute.constitution.priority import DEFAULT_LEVELS, level_names
from constitute.constitution.read import (
    FORMS,
    MAX_WEIGHT,
    fill_form,
    parse_constitution,
    parse_whole,
    read_constitution,
)
from constitute.constitution.round_trip import BOM, BY_HAND, File, Place, loaded
from constitute.constitution.splice import spliced
from constitute.constitution.write import entry, free_id, number
from constitute.errors import DataError, UsageError
from constitute.files import atomic
from constitute.strict_yaml import CONTROL, MAX_BYTES, Node, fail, read_bytes, resolve, shorten
from constitute.types import Constitution, Principle

KEYS = ("text", *FORMS, "opposite", "weight", "priority")


def set_value(data: bytes, principle_id: str, key: str, value: str, name: str | Path = "the file") -> bytes:
    """The file's bytes with one value of one principle replaced, or inserted where the key is absent.

    `key` is one of `KEYS`. A form that is absent from the file still follows the text. A priority that is no
    level is mended though the file cannot be loaded, and though another problem is left. Raises `UsageError`
    for an unknown id or key or a value that cannot stand, `DataError` for a file that cannot be loaded.
    """
    if key == "priority" and (root := read_constitution(data)[1]) and not read_constitution(data)[0]:
        return _mended_priority(data, root, principle_id, value, name)
    return _set(data, parse_whole(data, name), principle_id, key, value)[0]


def _set(
    data: bytes, whole: tuple[Constitution, Node], principle_id: str, key: str, value: str
) -> tuple[bytes, Principle, Principle]:
    """The edited bytes, and the principle as it was and as it is, of a file that was read as `whole`."""
    before, root = whole
    ids = [principle.id for principle in before.principles]
    check_known(principle_id, ids, "principle")
    check_known(key, KEYS, "key")
    value = _checked(key, value)
    if key == "priority":
        check_known(value, level_names(before), "level")
    at = ids.index(principle_id)
    written = set(root.at(("principles", at)).entries)
    wanted = _changed(before.principles[at], written & set(FORMS), key, value)
    principles = (*before.principles[:at], wanted, *before.principles[at + 1 :])
    after = ("id", *KEYS[: KEYS.index(key)])
    changed = before.model_copy(update={"principles": principles})
    return _put(data, ("principles", at), key, value, after, changed), before.principles[at], wanted


def _mended_priority(data: bytes, root: Node, principle_id: str, value: str, name: str | Path) -> bytes:
    """The bytes of a file that cannot be loaded with a priority that makes it better, or its `DataError`."""
    listed = root.entries["principles"].items if "principles" in root.entries else []
    ids = [str(item.entries["id"].scalar).strip() if "id" in item.entries else "" for item in listed]
    problems = read_constitution(data)[2]
    if principle_id not in ids or "priority" not in listed[ids.index(principle_id)].entries:
        raise fail(name, problems)
    named = root.entries["priorities"].plain() if "priorities" in root.entries else None
    value = _checked("priority", value)
    check_known(value, [str(level).strip() for level in named or DEFAULT_LEVELS], "level")
    at = ids.index(principle_id)
    wanted = root.plain()
    wanted["principles"][at]["priority"] = value
    text = data.decode()
    mark = BOM if text.startswith(BOM) else ""
    for edited in spliced(text.removeprefix(BOM), ("principles", at), "priority", value, ()):
        made = (mark + edited).encode()
        _, node, left = read_constitution(made)
        if node is not None and node.plain() == wanted and len(left) < len(problems):
            return made
    raise fail(name, problems)


def set_name(data: bytes, name: str) -> bytes:
    """The file's bytes under another name."""
    before = parse_constitution(data, "the file")
    name = _checked("name", name)
    return _put(data, (), "name", name, (), before.model_copy(update={"name": name}))


def _put(
    data: bytes, path: Sequence[int | str], key: str, value: str, after: Sequence[str], wanted: Constitution
) -> bytes:
    """The first way to put in the value that reads back as `wanted`; `DataError` where there is none."""
    text = data.decode()
    mark = BOM if text.startswith(BOM) else ""
    text = text.removeprefix(BOM)
    for edited in spliced(text, path, key, value, after):
        made = (mark + edited).encode()
        if read_constitution(made)[0] == wanted:
            return made
    raise DataError(BY_HAND)


def append(data: bytes, principles: Sequence[Principle]) -> tuple[bytes, int, int]:
    """The file's bytes with `principles` at the end of its list, how many were added and how many skipped.

    One with the text and forms of another, in the file or before it in `principles`, is skipped; an id
    that is taken gets a number. Raises `DataError` where the file cannot be loaded or the list is inline.
    """
    return _append(data, parse_constitution(data, "the file"), principles)


def _append(data: bytes, before: Constitution, principles: Sequence[Principle]) -> tuple[bytes, int, int]:
    taken = {p.id for p in before.principles}
    said = {_words(p) for p in before.principles}
    added: list[Principle] = []
    numbers: dict[str, int] = {}
    for principle in principles:
        if _words(principle) in said:
            continue
        said.add(_words(principle))
        added.append(principle.model_copy(update={"id": free_id(principle.id, taken, numbers)}))
        taken.add(added[-1].id)
    if not added:
        return data, 0, len(principles)
    for principle in added:
        if principle.priority and principle.priority not in level_names(before):
            raise DataError(
                f"the principle {principle.id!r} has the priority {shorten(principle.priority)!r}, which is "
                f"no level of the file ({', '.join(level_names(before))}); add it to the file's priorities"
            )
    file = File(data)
    listed = file.root["principles"]
    if listed.fa.flow_style():
        raise DataError(
            f"the principles stand inline in brackets (line {listed.lc.line + 1}); "
            "write each on lines of its own with '- id:' first"
        )
    # What stands below the list belongs to the key that follows it, or is the end of the file.
    follows = next(reversed(file.root)) != "principles"
    for principle in added:
        last = Place.last(listed)
        beside, below = last.tail()
        listed.append(loaded("\n".join(["k:", *entry(principle)]))[0])
        last.set_tail(beside, _with_blank_line(last, "" if follows else below))
        if follows:
            Place.last(listed).set_tail("", below if below.startswith("\n") else f"\n{below}")
    wanted = before.model_copy(update={"principles": (*before.principles, *added)})
    return file.bytes(wanted), len(added), len(principles) - len(added)


def set_in_file(path: Path, principle_id: str, key: str, value: str) -> tuple[str, str] | None:
    """Set one value in a file, whole or not at all; the old and the new, None where they are the same."""
    data = read_mine(path)
    if key == "priority" and read_constitution(data)[0] is None:
        edited = set_value(data, principle_id, key, value, path)
        before, after = (_value(each, principle_id, key) for each in (data, edited))
    else:
        edited, old, new = _set(data, parse_whole(data, path), principle_id, key, value)
        before, after = getattr(old, key), getattr(new, key)
    if before == after:
        return None
    replace_file(path, edited)
    return (number(before), number(after)) if key == "weight" else (before, after)


def _value(data: bytes, principle_id: str, key: str) -> Any:
    """A principle's value in a file, which need not be loadable for a priority."""
    constitution, root, _ = read_constitution(data)
    if constitution is not None:
        return next(getattr(p, key) for p in constitution.principles if p.id == principle_id)
    assert root is not None
    entries = root.entries["principles"].items
    return next(
        str(each.entries[key].scalar).strip()
        for each in entries
        if "id" in each.entries and str(each.entries["id"].scalar).strip() == principle_id
    )


def left_behind(path: Path, principle_id: str) -> tuple[str, ...]:
    """The forms of a principle that are written in the file, and so do not follow its text."""
    constitution, root = parse_whole(read_mine(path), path)
    at = [principle.id for principle in constitution.principles].index(principle_id)
    written = root.at(("principles", at)).entries
    return tuple(form for form in FORMS if form in written)


def still_said(forms: Sequence[str]) -> str:
    """What a new text leaves undone where these forms are written out."""
    *others, last = forms
    if not others:
        return (
            f"{last} is written out and still says the old thing: set it too, or remove it to have it filled "
            "from the text"
        )
    return (
        f"{', '.join(others)} and {last} are written out and still say the old thing: set them too, or "
        "remove them to have them filled from the text"
    )


def append_to_file(path: Path, principles: Sequence[Principle]) -> tuple[int, int]:
    """Append principles to a constitution file; (added, already there). Nothing is written where none is new.

    Raises as `append` does, and `UsageError` where there is no such file.
    """
    data = read_mine(path)
    before = parse_constitution(data, path)
    try:
        edited, added, skipped = _append(data, before, principles)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if added:
        replace_file(path, edited)
    return added, skipped


def read_mine(path: Path) -> bytes:
    """The bytes of a file of one's own; a packaged one cannot be edited."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give one of yours, or make one with constitution new")
    return read_bytes(path)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file whole or not at all; its permissions stay, and a link to it stays a link."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} would be larger than {MAX_BYTES:,} bytes; nothing was changed")
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode)
    with atomic(target) as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(data)


def check_known(given: str, known: Sequence[str], what: str) -> None:
    """Raise `UsageError` for a name that is none of `known`."""
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
    if found := CONTROL.search(value):
        raise UsageError(f"{key} holds the control character U+{ord(found[0]):04X}; remove it")
    return value


def _changed(principle: Principle, written: set[str], key: str, value: str) -> Principle:
    if key == "weight":
        return principle.model_copy(update={"weight": float(value)})
    update = {key: value}
    if key == "text":
        update |= {form: fill_form(form, value) for form in FORMS if form not in written}
    return principle.model_copy(update=update)


def _words(principle: Principle) -> tuple[str, ...]:
    return (principle.text, principle.critique, principle.revise, principle.compare)


def _with_blank_line(place: Place, below: str) -> str:
    """What stands below a value, with a blank line at its end; a block under |+ may end in one of its own."""
    own = not below and str(place.value).endswith("\n\n")
    return below if own or below.endswith("\n\n") or below == "\n" else below + "\n"

"""Add examples to a constitution file, and take the draft marks away from what somebody has read.

Edits as `edit` makes them: comments, order and layout stay, or the edit is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from constitute.constitution.edit import check_known, read_mine, replace_file
from constitute.constitution.read import parse_constitution
from constitute.constitution.round_trip import File, Place, loaded
from constitute.constitution.write import example_lines
from constitute.errors import DataError
from constitute.types import Constitution, Example


class Kept(NamedTuple):
    """How many principles and examples are drafts no longer."""

    principles: int
    examples: int


def add_examples(data: bytes, examples: Mapping[str, Sequence[Example]]) -> bytes:
    """The file's bytes with each principle's new examples after those it has; `examples` go by id.

    Raises `UsageError` for an unknown id, `DataError` for a file that cannot be loaded or edited safely.
    """
    before = parse_constitution(data, "the file")
    ids = [principle.id for principle in before.principles]
    for name in examples:
        check_known(name, ids, "principle")
    file = File(data)
    wanted = list(before.principles)
    for at, principle in enumerate(before.principles):
        new = tuple(examples.get(principle.id, ()))
        if new:
            _append(file.root["principles"][at], new, principle.id)
            wanted[at] = principle.model_copy(update={"examples": (*principle.examples, *new)})
    return file.bytes(before.model_copy(update={"principles": tuple(wanted)}))


def keep_drafts(data: bytes, ids: Sequence[str] = ()) -> tuple[bytes, Kept]:
    """The file's bytes without the draft marks of the principles `ids` (all where none is given), and counts.

    A principle's mark goes with those of its examples. A mark that has a comment beside it becomes false.
    """
    before = parse_constitution(data, "the file")
    known = [principle.id for principle in before.principles]
    for name in ids:
        check_known(name, known, "principle")
    file = File(data)
    wanted = list(before.principles)
    principles = examples = 0
    for at, principle in enumerate(before.principles):
        if ids and principle.id not in ids:
            continue
        written = file.root["principles"][at]
        drafts = [place for place, example in enumerate(principle.examples) if example.draft]
        for place in drafts:
            _unmark(written["examples"][place])
        if principle.draft:
            _unmark(written)
        principles, examples = principles + principle.draft, examples + len(drafts)
        kept = tuple(example.model_copy(update={"draft": False}) for example in principle.examples)
        wanted[at] = principle.model_copy(update={"draft": False, "examples": kept})
    if not principles and not examples:
        return data, Kept(0, 0)
    return file.bytes(_with(before, wanted)), Kept(principles, examples)


def add_examples_to_file(path: Path, examples: Mapping[str, Sequence[Example]]) -> None:
    """`add_examples` on a file, whole or not at all; a file without anything new stays as it is."""
    data = read_mine(path)
    parse_constitution(data, path)
    if any(examples.values()):
        _named(path, lambda: replace_file(path, add_examples(data, examples)))


def keep_in_file(path: Path, ids: Sequence[str] = ()) -> Kept:
    """`keep_drafts` on a file, whole or not at all."""
    data = read_mine(path)
    parse_constitution(data, path)
    kept = Kept(0, 0)

    def edit() -> None:
        nonlocal kept
        edited, kept = keep_drafts(data, ids)
        if edited != data:
            replace_file(path, edited)

    _named(path, edit)
    return kept


def _named(path: Path, edit: Any) -> None:
    """Run an edit; what it refuses is told with the file's name."""
    try:
        edit()
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def _with(constitution: Constitution, principles: Sequence[Any]) -> Constitution:
    return constitution.model_copy(update={"principles": tuple(principles)})


def _append(written: Any, examples: Sequence[Example], name: str) -> None:
    """Put examples after the last of a principle's, or as its last key; comments below stay below."""
    new = loaded("\n".join(["k:", *example_lines(examples)]))
    listed = written.get("examples")
    if written.fa.flow_style() or (listed and listed.fa.flow_style()):
        raise DataError(
            f"the examples of {name!r} would stand in brackets; write the principle on lines of its own"
        )
    if listed:
        last = Place.last(listed)
        beside, below = last.tail()
        for example in new:
            listed.append(example)
    else:
        if "examples" in written:
            # An empty list says nothing, and a list of lines cannot follow its brackets.
            _remove(written, "examples")
        last = Place.last(written)
        beside, below = last.tail()
        written["examples"] = listed = new
    last.set_tail(beside, "")
    Place.last(listed).set_tail("", below)


def _unmark(written: Any) -> None:
    """Take `draft: true` away from a mapping."""
    if Place(written, "draft").tail()[0] or next(iter(written)) == "draft":
        written["draft"] = False
    else:
        _remove(written, "draft")


def _remove(written: Any, key: str) -> None:
    """Remove a key that is not the first; the comments below it follow what stands before it."""
    names = list(written)
    beside, below = Place(written, key).tail()
    del written[key]
    written.ca.items.pop(key, None)
    if beside or below:
        before = names[names.index(key) - 1]
        value: Any = written[before]
        deeper = bool(value) and hasattr(value, "fa") and not value.fa.flow_style()
        place = Place.last(value) if deeper else Place(written, before)
        first, rest = place.tail()
        place.set_tail(first, f"{rest}{beside}{below}")

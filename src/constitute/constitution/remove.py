"""Remove principles from a constitution file, and leave every other line as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from constitute.constitution.edit import check_known, read_mine, replace_file
from constitute.constitution.read import parse_constitution, read_constitution
from constitute.errors import DataError, UsageError
from constitute.strict_yaml import Node


def remove_from_file(path: Path, ids: Sequence[str], keep: bool = False) -> tuple[int, int]:
    """Remove the principles `ids` from a file, or with `keep` all others; how many went and how many stay.

    Raises `UsageError` for an unknown id or where none would be left, `DataError` for a file that cannot be
    loaded or is laid out inline.
    """
    data = read_mine(path)
    parse_constitution(data, path)
    try:
        edited, gone, left = removed(data, ids, keep)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
    if gone:
        replace_file(path, edited)
    return gone, left


def removed(data: bytes, ids: Collection[str], keep: bool = False) -> tuple[bytes, int, int]:
    """The file's bytes without these principles, or with `keep` without all others; removed, left.

    With a principle go the comments within it and right above it. The result is read back first.
    """
    before = parse_constitution(data, "the file")
    known = [principle.id for principle in before.principles]
    for name in ids:
        check_known(name, known, "principle")
    stays = [(principle.id in ids) == keep for principle in before.principles]
    if not any(stays):
        raise UsageError("no principle would be left; leave at least one in the file")
    _, root, _ = read_constitution(data)
    lines = data.decode().splitlines(keepends=True)
    kept = _without(lines, root, stays)
    left = tuple(p for p, stay in zip(before.principles, stays, strict=True) if stay)
    edited = "".join(kept).encode()
    if read_constitution(edited)[0] != before.model_copy(update={"principles": left}):
        raise DataError("its principles are laid out in a way that cannot be edited safely; edit it by hand")
    return edited, len(known) - len(left), len(left)


def _without(lines: Sequence[str], root: Node | None, stays: Sequence[bool]) -> list[str]:
    """The lines but those of the principles that go."""
    starts = [node.line - 1 for node in root.entries["principles"].items] if root else []
    indents = [len(line) - len(line.lstrip()) for line in lines]
    gone: set[int] = set()
    for at, start in enumerate(starts):
        if stays[at]:
            continue
        end = starts[at + 1] if at + 1 < len(starts) else _end(lines, indents, start)
        # The comments right above the next one are the next one's.
        while at + 1 < len(starts) and end > start + 1 and lines[end - 1].lstrip().startswith("#"):
            end -= 1
        while start and lines[start - 1].lstrip().startswith("#") and indents[start - 1] >= indents[start]:
            start -= 1
        gone |= set(range(start, end))
    return [line for at, line in enumerate(lines) if at not in gone]


def _end(lines: Sequence[str], indents: Sequence[int], start: int) -> int:
    """The line after the last entry of the list: the first that stands no deeper than its dash."""
    for at in range(start + 1, len(lines)):
        if lines[at].strip() and indents[at] <= indents[start] and not lines[at].lstrip().startswith("#"):
            return at
    return len(lines)

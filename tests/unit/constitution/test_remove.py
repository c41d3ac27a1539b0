"""Principles go with their own comments, and every other line of the file stays as it is."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from constitute.cli.constitution.group import remove
from constitute.constitution.read import parse_constitution
from constitute.constitution.remove import removed
from constitute.errors import DataError, UsageError
from constitute.packaged import packaged_files

FILE = b"""\
# head
name: x   # the name
principles:
  # about a
  - id: a
    text: Be a.
    # within a

  - id: b   # beside b
    text: |
      # no comment
      Be b.

  # about c
  - {id: c, text: Be c.}
description: after the list
"""


def test_the_lines_of_one_go_and_no_other() -> None:
    edited, gone, left = removed(FILE, ["b"])
    assert (gone, left) == (1, 2)
    assert edited == FILE.replace(
        b"  - id: b   # beside b\n    text: |\n      # no comment\n      Be b.\n\n", b""
    )
    edited, *_ = removed(FILE, ["a"])
    assert edited == FILE.replace(b"  # about a\n  - id: a\n    text: Be a.\n    # within a\n\n", b"")
    edited, *_ = removed(FILE, ["c"])
    assert edited == FILE.replace(b"  # about c\n  - {id: c, text: Be c.}\n", b"")


def test_all_others_go() -> None:
    edited, gone, left = removed(FILE, ["c"], keep=True)
    assert (gone, left) == (2, 1)
    assert [p.id for p in parse_constitution(edited, "f").principles] == ["c"]
    assert b"# about c" in edited and b"# about a" not in edited and b"description: after" in edited
    assert removed(FILE, ["a", "b", "c"], keep=True) == (FILE, 0, 3)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_principles_of_every_packaged_file_can_go(end: bytes) -> None:
    for path in packaged_files("constitutions", ".yaml").values():
        data = path.read_bytes().replace(b"\n", end)
        before = parse_constitution(data, path)
        for principle in (before.principles[0], before.principles[-1]):
            edited, *_ = removed(data, [principle.id])
            left = parse_constitution(edited, path).principles
            assert left == tuple(p for p in before.principles if p.id != principle.id)
            # What is left is the file's own lines, in their order.
            rest = iter(data.splitlines())
            assert all(line in rest for line in edited.splitlines())


def test_what_cannot_go_is_refused() -> None:
    with pytest.raises(UsageError, match="no principle 'd'"):
        removed(FILE, ["d"])
    with pytest.raises(UsageError, match="no principle would be left"):
        removed(FILE, ["a", "b", "c"])
    with pytest.raises(DataError, match="edit it by hand"):
        removed(b"{name: x, principles: [{id: a, text: A.}, {id: b, text: B.}]}", ["a"])


def test_the_command_says_what_it_did(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(FILE)
    done = CliRunner().invoke(remove, [str(path), "a", "c", "--others"])
    assert (done.exit_code, done.stderr) == (0, f"{path}: 1 principle removed, 2 left\n")
    assert [p.id for p in parse_constitution(path.read_bytes(), path).principles] == ["a", "c"]

"""The key `opposite` of a principle: read, written, edited, exported, and no part of what a judge reads."""

from __future__ import annotations

from pathlib import Path

from constitute.constitution.edit import set_value
from constitute.constitution.formats.convert import export, import_constitution
from constitute.constitution.identity import constitution_hash
from constitute.constitution.read import parse_constitution
from constitute.constitution.write import to_yaml

FILE = b"""name: c
principles:
  - id: kind
    text: Be kind.
    opposite: "Be cold: as cold as {{ ice }}."
    weight: 2
  - id: brief
    text: Be brief.
"""


def test_it_is_read_and_written_as_it_stands() -> None:
    found = parse_constitution(FILE, "f")
    assert [p.opposite for p in found.principles] == ["Be cold: as cold as {{ ice }}.", ""]
    assert parse_constitution(to_yaml(found).encode(), "g") == found
    assert "opposite" not in found.principles[1].model_dump()


def test_no_judge_reads_it_so_it_changes_no_hash() -> None:
    found = parse_constitution(FILE, "f")
    plain = parse_constitution(FILE.replace(b"    opposite:", b"    source:"), "f")
    assert constitution_hash(found) == constitution_hash(plain)


def test_it_is_set_like_a_form() -> None:
    once = set_value(FILE, "brief", "opposite", "Go on and on.")
    assert parse_constitution(once, "f").principles[1].opposite == "Go on and on."
    again = set_value(once, "kind", "opposite", "Be rude.")
    assert parse_constitution(again, "f").principles[0].opposite == "Be rude."
    assert once.startswith(FILE.rstrip())


def test_markdown_keeps_it_and_other_formats_say_that_they_cannot(tmp_path: Path) -> None:
    found = parse_constitution(FILE, "f")
    text, notes = export(found, "markdown")
    assert notes == []
    path = tmp_path / "c.md"
    path.write_text(text, encoding="utf-8")
    assert import_constitution([path])[0].principles == found.principles
    _, notes = export(found, "list")
    assert any("opposites" in note for note in notes)

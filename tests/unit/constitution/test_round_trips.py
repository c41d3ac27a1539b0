"""`show` with counts, imports into a file that has comments, and edits in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitute.cli.constitution.group import constitution as group
from constitute.constitution.edit import append_to_file, set_in_file
from constitute.constitution.read import fill_form, load_constitution, parse_constitution, parse_whole
from constitute.constitution.show import filled_forms, pick, principle_rows
from constitute.errors import DataError, UsageError
from constitute.packaged import find


def test_show_counts_what_the_model_reads(tmp_path: Path) -> None:
    whole = load_constitution("pocket/harmless")
    filled = filled_forms(parse_whole(find("pocket/harmless", "constitutions", ".yaml").read_bytes(), "f")[1])
    chosen = pick(whole, ["no-assist-acts-cruelty"])
    rows = principle_rows(chosen, filled, whole, tokens=lambda text: text.count("e"))
    (row,) = rows
    read = row["reads"]["critique"]
    assert row["lengths"]["critique"] == {
        "tokens": read.count("e"),
        "words": len(read.split()),
        "characters": len(read),
    }
    # Placeholders are shown and not counted.
    asked = row["reads"]["compare"].split("\n\n")
    around = "Here are a conversation and two replies to it. (A) (B)"
    assert row["lengths"]["compare"]["words"] == len(f"{around} {asked[-1]}".split())
    assert row["drawn"] == pytest.approx(1 / 14)
    assert row["filled"] == []


def test_an_id_that_the_tag_leaves_out_is_known() -> None:
    whole = load_constitution("assistant")
    tag = whole.principles[0].tags[0]
    other = next(p.id for p in whole.principles if tag not in p.tags)
    assert [p.id for p in pick(whole, [whole.principles[0].id, other], [tag]).principles] == [
        whole.principles[0].id
    ]
    with pytest.raises(UsageError, match=f"^{other} and the tag {tag} have no principle in common; leave"):
        pick(whole, [other], [tag])
    with pytest.raises(UsageError, match=rf" and {len(whole.principles) - 10} more$"):
        pick(whole, ["zzzz"])


def test_show_tells_what_is_filled_by_the_file_and_not_by_the_words() -> None:
    same = fill_form("critique", "Be kind.").replace("\n", "\\n")
    file = (
        f'name: c\nprinciples:\n  - id: a\n    text: Be kind.\n    critique: "{same}"\n'
        "  - id: b\n    text: Be true.\n    weight: 3\n"
    ).encode()
    filled = filled_forms(parse_whole(file, "f")[1])
    assert filled == {"a": ["revise", "compare"], "b": ["critique", "revise", "compare"]}
    rows = principle_rows(parse_constitution(file, "f"), filled)
    assert [row["drawn"] for row in rows] == [0.25, 0.75]
    assert [row["filled"] for row in rows] == list(filled.values())
    assert "tokens" not in rows[0]["lengths"]["compare"]


def test_show_prints_tokens_of_the_model_and_refuses_what_it_cannot_count() -> None:
    pytest.importorskip("transformers")
    done = CliRunner().invoke(
        group, ["show", "pocket/harmless", "--model", "pocket", "--json", "--tag", "harmful"]
    )
    *rows, last = [json.loads(line) for line in done.output.splitlines()]
    assert last["totals"]["tokens"] == sum(n["tokens"] for r in rows for n in r["lengths"].values())
    assert len(rows) == 14 and all(0 < r["lengths"]["compare"]["tokens"] < 200 for r in rows)
    refused = CliRunner().invoke(group, ["show", "pocket/harmless", "--model", "http://localhost:1"])
    assert isinstance(refused.exception, UsageError) and "--tokenizer" in str(refused.exception)
    unknown = CliRunner().invoke(group, ["show", "pocket/harmless", "--principle", "no-asist-acts-cruelty"])
    assert "did you mean no-assist-acts-cruelty" in str(unknown.exception)


def test_import_into_keeps_every_byte_and_skips_what_is_there(tmp_path: Path) -> None:
    file, more = tmp_path / "mine.yaml", tmp_path / "more.md"
    file.write_text(
        "# mine\nname: mine   # a name\nprinciples:\n  - id: kind  # first\n    text: Be kind.\n# end\n"
    )
    before = file.read_text()
    more.write_text("- **kind**: Be kind.\n- **brief**: Be brief.\n- **kind**: Be kinder.\n")
    done = CliRunner().invoke(group, ["import", str(more), "--into", str(file)])
    assert done.exit_code == 0, done.exception
    after = file.read_text()
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert [p.text for p in load_constitution(file).principles] == ["Be kind.", "Be brief.", "Be kinder."]
    assert len({p.id for p in load_constitution(file).principles}) == 3
    assert append_to_file(file, load_constitution(file).principles) == (0, 3)
    assert file.read_text() == after
    file.write_text("name: [")
    with pytest.raises(DataError, match=r"mine\.yaml:1:"):
        append_to_file(file, load_constitution("pocket/concise").principles)
    assert file.read_text() == "name: ["


def test_edits_in_place_keep_permissions_and_links(tmp_path: Path) -> None:
    file, link = tmp_path / "mine.yaml", tmp_path / "link.yaml"
    file.write_text("name: mine\nprinciples:\n  - {id: kind, text: Be kind.}\n")
    file.chmod(0o640)
    link.symlink_to(file)
    assert set_in_file(link, "kind", "weight", "2") == ("1", "2")
    assert append_to_file(link, load_constitution("pocket/concise").principles) == (8, 0)
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o640
    loaded = load_constitution(file)
    assert len(loaded.principles) == 9 and loaded.principles[0].weight == 2
    inline = tmp_path / "inline.yaml"
    inline.write_text("name: n\nprinciples: [{id: a, text: b}]\n")
    with pytest.raises(DataError, match=r"inline\.yaml: the principles stand inline in brackets"):
        append_to_file(inline, loaded.principles)


def test_an_import_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text(json.dumps(["x" * 2_100_000, "y" * 2_100_000]))
    out = tmp_path / "out.yaml"
    done = CliRunner().invoke(group, ["import", str(tmp_path / "long.json"), "-o", str(out)])
    assert isinstance(done.exception, DataError) and "larger than 4,000,000 bytes" in str(done.exception)
    assert not out.exists()

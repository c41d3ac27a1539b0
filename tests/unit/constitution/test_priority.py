"""Levels: their order, principles without one, and files that order them against each other."""

from __future__ import annotations

import pytest

from constitute.constitution.edit import append
from constitute.constitution.formats.convert import import_constitution
from constitute.constitution.identity import constitution_hash
from constitute.constitution.priority import levels, merge_levels
from constitute.constitution.read import parse_constitution, parse_whole
from constitute.constitution.show import as_text, filled_forms, principle_rows
from constitute.errors import DataError


def file(head: str, **priorities: str) -> bytes:
    entries = "".join(
        f"  - id: {name}\n    text: Be {name}.\n" + (f"    priority: {level}\n" if level else "")
        for name, level in priorities.items()
    )
    return f"name: x\n{head}principles:\n{entries}".encode()


def test_a_level_is_its_place_in_the_list_and_none_is_the_last():
    default = parse_constitution(file("", a="root", b="user", c="", d="guideline"), "f")
    assert levels(default) == {"a": 0, "b": 3, "c": 4, "d": 4}
    own = parse_constitution(file("priorities: [law, house]\n", a="house", b="law", c=""), "f")
    assert levels(own) == {"a": 1, "b": 0, "c": 1}
    assert own.priorities == ("law", "house")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (file("", a="rot"), "f:5:15: the priority 'rot' is no level; did you mean 'root'?"),
        (
            file("priorities: [law, house]\n", a="root"),
            "f:6:15: the priority 'root' is no level; the levels are law",
        ),
        (file("priorities: [law, law]\n", a="law"), "f:2:19: the level 'law' stands twice in priorities"),
        (file("priorities: law\n", a=""), "f:2:13: priorities must be a list"),
        (file("priorities: [3]\n", a=""), "f:2:14: priorities must be text"),
    ],
)
def test_levels_that_nobody_knows_are_named_with_their_place(data, said):
    with pytest.raises(DataError) as refused:
        parse_constitution(data, "f")
    assert said in str(refused.value)


def test_levels_of_several_files_keep_the_order_of_each():
    assert merge_levels([("law", "house"), ("root", "law"), ("house", "style")]) == (
        "root",
        "law",
        "house",
        "style",
    )
    with pytest.raises(DataError, match=r"against each other \(.*law above"):
        merge_levels([("law", "house"), ("house", "style", "law")])


def test_an_import_of_files_whose_levels_contradict_is_refused(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_bytes(file("priorities: [law, house]\n", a="law"))
    b.write_bytes(file("priorities: [house, law]\n", b="law"))
    with pytest.raises(DataError, match="against each other"):
        import_constitution([a, b])
    b.write_bytes(file("priorities: [law, style]\n", b="style"))
    merged, _ = import_constitution([a, b])
    assert levels(merged)["a"] < levels(merged)["b"]


def test_a_file_takes_no_principle_of_a_level_that_it_lacks():
    there = file("priorities: [law, house]\n", a="law")
    (new,) = parse_constitution(file("", b="root"), "f").principles
    with pytest.raises(DataError, match=r"priority 'root', which is no level of the file \(law, house\)"):
        append(there, [new])
    edited, added, _ = append(file("", a="root"), [new])
    assert (added, b"priority: root" in edited.split(b"id: b")[1]) == (1, True)


def test_the_hash_follows_the_order_of_levels_not_their_names():
    first, renamed, turned = (
        constitution_hash(parse_constitution(file(f"priorities: [{names}]\n", a=a, b=b), "f"))
        for names, a, b in (
            ("law, house", "law", "house"),
            ("x, y", "x", "y"),
            ("house, law", "law", "house"),
        )
    )
    assert first == renamed
    assert first != turned


def test_show_prints_the_levels_and_the_priority_of_each() -> None:
    data = file("", a="root", b="user", c="")
    whole = parse_constitution(data, "f")
    said = as_text(whole, principle_rows(whole, filled_forms(parse_whole(data, "f")[1])))
    assert "each: root (1), system (0), developer (0), user (1), guideline (1)\n" in said
    assert "a (weight 1, drawn 33.3%, priority root)" in said and "c (weight 1, drawn 33.3%)" in said
    plain = file("", c="")
    none = parse_constitution(plain, "f")
    assert "levels" not in as_text(none, principle_rows(none, filled_forms(parse_whole(plain, "f")[1])))


def test_show_names_the_principles_without_a_priority() -> None:
    some = parse_constitution(file("", a="root", b="", c=""), "c.yaml")
    said = "without a priority, so on the last level: "
    filled: dict[str, list[str]] = {name: [] for name in "abc"}
    assert f"{said}b, c\n" in as_text(some, principle_rows(some, filled))
    none, every = (
        some.model_copy(
            update={"principles": tuple(p.model_copy(update={"priority": name}) for p in some.principles)}
        )
        for name in ("", "user")
    )
    for other in (none, every):
        assert said not in as_text(other, principle_rows(other, filled))

"""Prose in, principles out: what is taken, what is left out and why, and that nothing is lost."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.cli.constitution.group import constitution as command
from constitute.constitution.formats.asks import ALLOWS, AUTHORS, NOTHING, OTHERS
from constitute.constitution.formats.base import LeftOut, Source
from constitute.constitution.formats.blocks import blocks
from constitute.constitution.formats.convert import Imported, import_files
from constitute.constitution.formats.lists import is_list
from constitute.constitution.formats.prose import PROSE
from constitute.constitution.formats.sections import plain, size
from constitute.constitution.read import parse_constitution
from constitute.constitution.write import to_yaml
from constitute.errors import DataError, UsageError

TEXT = """\
---
layout: page
---
# How our helper talks

Our shop sells plants. The helper may be asked anything.

## Honesty

The helper must not invent facts. This includes prices and
names. However, it may guess where it says so. Users should read
the [terms](https://example.org/terms).

It is a program. It should say that it is one[^1].

Replies should:

- be short
- be *kind*

!!! note "Commentary"
    We must keep this short.

| rule | why |
|---|---|
| Be true | trust |

```python
must = "be left out"
```

<!-- must go -->

We should hire more people.
"""


def read(tmp_path: Path, text: str, name: str = "rules.md", kind: str = "") -> Imported:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return import_files([path], kind=kind)


def test_what_asks_becomes_principles_and_the_rest_is_listed(tmp_path: Path) -> None:
    loaded, notes, left = read(tmp_path, TEXT)
    assert loaded.name == "How our helper talks"
    assert [(p.id, p.text, p.tags, p.source) for p in loaded.principles] == [
        (
            "the-helper-must-not-invent-facts",
            "The helper must not invent facts. This includes prices and names. However, it may guess where "
            "it says so.",
            ("honesty",),
            "rules.md, line 10",
        ),
        (
            "the-helper-is-a-program-it",
            "The helper is a program. It should say that it is one.",
            ("honesty",),
            "rules.md, line 14",
        ),
        (
            "replies-should-be-short",
            "Replies should:\n- be short\n- be kind",
            ("honesty",),
            "rules.md, line 16",
        ),
        ("be-true", "Be true", ("honesty",), "rules.md, line 26"),
    ]
    (parts,) = left.values()
    assert [(part.line, part.reason) for part in parts] == [
        (1, "settings of the page"),
        (6, NOTHING),
        (6, NOTHING),
        (11, OTHERS),
        (21, "commentary"),
        (24, "rows of a table that ask for nothing"),
        (26, "a cell of a table that asks for nothing"),
        (28, "a block of code"),
        (32, "markup"),
        (34, AUTHORS),
    ]
    assert parts[3].text == "Users should read\nthe [terms](https://example.org/terms)."
    total = sum(size(block.text) for block in blocks(TEXT))
    taken = total - sum(size(part.text) for part in parts)
    assert notes == [
        f"{tmp_path / 'rules.md'}: {taken} of {total} characters ({taken / total:.0%}) stand in "
        "principles and examples; 10 parts left out"
    ]


WORDS = st.sampled_from(
    [
        "must",
        "be good",
        "The assistant",
        "Use it.",
        "why?",
        "(a.",
        "b.)",
        "e.g.",
        "[x](#y)",
        "**Label**:",
        "—",
    ]
)
SIGNS = "# ;## ;- ;  - ;1. ;> ;```;~~~;!!! x;:::;    ;<!-- ;-->;---;===;| a;<user>;</user>"
MARKS = st.sampled_from(re.split(";", SIGNS))
LINES = st.lists(
    st.builds(lambda mark, words: mark + " ".join(words), MARKS, st.lists(WORDS, max_size=4)), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_every_word_of_a_text_is_in_exactly_one_block(lines: list[str]) -> None:
    text = "\n".join(lines)
    kept = re.findall(r"\w+", "\n".join(" ".join([b.text, b.id, *b.attributes]) for b in blocks(text)))
    # Attributes and numbers of lists are marks.
    dropped = {"id", "authority", "user", "1"}
    assert [w for w in kept if w not in dropped] == [w for w in re.findall(r"\w+", text) if w not in dropped]


@settings(max_examples=200, deadline=None)
@given(LINES)
def test_what_is_taken_and_what_is_left_out_make_up_the_text(lines: list[str]) -> None:
    text = "\n".join(["The assistant must be as good as it can be to all of us.", *lines])
    found = PROSE.read(Source(Path("f.md"), text.encode()))
    left = [w for part in found.left_out for w in re.findall(r"\w+", plain(part.text))]
    taken = [w for d in found.drafts for w in re.findall(r"\w+", d.text)]
    headings = [w for b in blocks(text) if b.kind == "heading" for w in re.findall(r"\w+", plain(b.text))]
    # A link's address is no word of a principle; a lead-in may stand in several.
    whole = [w for b in blocks(text) for w in re.findall(r"\w+", plain(b.text))]
    missing = set(whole) - set(left) - set(taken) - set(headings)
    assert not missing
    assert 0 <= sum(size(part.text) for part in found.left_out) <= found.length


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("- Be good.\n- Be brief.\n", True),
        (
            "# T\n\nHow we talk. In two rules.\n\n- Be good to all people you meet.\n- Be brief, always.",
            True,
        ),
        ("# T\n\n" + "We like long stories here. " * 20 + "\n\n- Be good.\n", False),
        ("Be good.\nBe brief.\n", True),
        ("Be good and\nkind.\n\nBe brief.\n", True),
        ("Be good. Never lie.\n\nBe brief.\n", False),
        ("# T\n\n## Honesty\nTell the truth.\n\n## Kindness\n", True),
        ("# T\n\n## Honesty\nTell the truth. Never lie.\n", False),
    ],
)
def test_a_list_is_read_as_a_list_and_prose_as_prose(text: str, listed: bool) -> None:
    assert is_list(text) is listed


def test_a_long_list_under_a_lead_in_gives_a_principle_an_item(tmp_path: Path) -> None:
    filler = "and so on with many more words that make this list long, " * 4
    text = f"We sell plants.\n\nThe helper should:\n\n- name prices {filler}\n- say hello {filler}\n"
    loaded, _, left = read(tmp_path, text, kind="prose")
    assert [p.text[:32] for p in loaded.principles] == [
        "The helper should: name prices a",
        "The helper should: say hello and",
    ]
    own = "Keep these rules. There are two:\n\nYou must keep to these:\n\n"
    own += f"1. Never lie {filler}\n2. Be kind {filler}\n"
    loaded, _, left = read(tmp_path, own, kind="prose")
    assert [p.text[:9] for p in loaded.principles] == ["Keep thes", "Never lie", "Be kind a"]
    assert [part.reason for part in next(iter(left.values()))] == [
        NOTHING,
        "leads in a list whose items stand for themselves",
    ]


def test_other_languages_are_said_and_never_silently_empty(tmp_path: Path) -> None:
    german = "Der Assistent soll ehrlich sein. Er darf niemals lügen, auch wenn es niemandem gefällt.\n"
    with pytest.raises(DataError, match=r"does not read as English.*--format list"):
        read(tmp_path, german * 3)
    _, notes, _ = read(tmp_path, german * 3 + "\nDon't lie.\n")
    assert "does not read as English" in notes[0]
    assert len(read(tmp_path, "- Sei ehrlich.\n- Lüge nie.\n").constitution.principles) == 2
    with pytest.raises(DataError, match=r"no principle was found \(line 1: asks for nothing\)"):
        read(tmp_path, "The sky is blue. The grass is green.\n")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (
            b"<!DOCTYPE html>\n<html><body>Be good.</body></html>",
            r"this is a web page \(HTML\); save it as plain text",
        ),
        (b"\xef\xbb\xbf <!-- made by hand -->\n<HTML lang=en>", r"this is a web page \(HTML\)"),
        (rb"{\rtf1\ansi Be good.\par}", r"this is rich text \(RTF\); save it as plain text or Markdown"),
        (
            b"PK\x03\x04\x14\x00" + b"\x00" * 20 + b"word/document.xml",
            "this is a Word file; save it as plain text",
        ),
        (b"PK\x03\x04" + b"mimetypeapplication/vnd.oasis.opendocument.text", "this is an OpenDocument text"),
        (b"PK\x03\x04\x00", "this is a zip file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "this is a Word or other Office file of the old kind"),
        (b"%PDF-1.7\n", "this is a PDF"),
        ("Be good.".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["rules.md", "rules.txt", "rules.docx"])
def test_what_is_no_text_is_refused_in_a_sentence(tmp_path: Path, data: bytes, what: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if b"\xff\xfe" in data[:2] and name == "rules.docx":
        return
    with pytest.raises(DataError, match=what) as refused:
        import_files([path])
    assert "\n" not in str(refused.value)


def test_large_files_take_seconds(tmp_path: Path) -> None:
    asks = "The assistant must not say the word number {n}. It was rude. Roses are red (violets are. Yes).\n"
    fat = "\n".join(f"## Part {n}\n\n" + asks.format(n=n) + "\nNothing else. At all.\n" for n in range(2_300))
    assert len(fat) > 300_000
    begun = time.process_time()
    loaded = read(tmp_path, fat).constitution
    assert len(loaded.principles) == 2_300 and time.process_time() - begun < 10
    flat = "Roses are red and violets are blue, and so it goes on and on. " * 80_000 + "\n\n- Be good.\n"
    assert len(flat) > 4_900_000
    begun = time.process_time()
    loaded = read(tmp_path, flat).constitution
    assert len(loaded.principles) == 1 and time.process_time() - begun < 30
    assert loaded.principles[0].text == "Be good."


ODD = ["#" * 500_000, "# " * 250_000, "> " * 250_000, "<!-- " * 100_000, "<user>\n" * 40_000, "[" * 500_000]
ODD += [
    "**" * 250_000,
    "(" * 500_000,
    "- " * 250_000,
    "- a\n  b\n" * 20_000,
    "a\n---\n" * 20_000,
    "*a " * 99_000,
]
ODD += ["```\n" * 60_000, "[a](" * 60_000, "if, " * 90_000, "!!!\n" * 60_000, "x" * 500_000, "must " * 90_000]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:8].replace("\n", " "))
def test_odd_marks_take_linear_time(tmp_path: Path, text: str) -> None:
    begun = time.process_time()
    PROSE.read(Source(Path("f.md"), f"{text}\n\nThe assistant must be good. Be brief.\n".encode()))
    assert time.process_time() - begun < 10


def test_ten_thousand_principles_in_a_list(tmp_path: Path) -> None:
    rows = "\n".join(f"- The assistant must not say the word number {n}." for n in range(10_000))
    begun = time.process_time()
    loaded, _, _ = read(tmp_path, rows)
    assert len({p.id for p in loaded.principles}) == 10_000
    assert to_yaml(loaded).count("\n  - id: ") == 10_000
    assert time.process_time() - begun < 20


def test_format_by_name(tmp_path: Path) -> None:
    text = "We sell plants. We are small.\n\n- Be good.\n"
    assert len(read(tmp_path, text, kind="list").constitution.principles) == 1
    assert len(read(tmp_path, text, "rules.rst", kind="prose").constitution.principles) == 1
    with pytest.raises(DataError, match=r"is not in the format salmon \(SALMON JSON\); leave out --format"):
        read(tmp_path, text, kind="salmon")
    with pytest.raises(
        UsageError, match="no such format of constitutions: 'markdwon'; did you mean 'markdown'"
    ):
        read(tmp_path, text, kind="markdwon")


def test_command_lists_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rules.md"
    path.write_text(TEXT)
    run = CliRunner()
    done = run.invoke(command, ["import", str(path)])
    assert done.exit_code == 0 and parse_constitution(done.stdout.encode(), "f").principles
    assert done.stderr.count(f"  {path}:") == 5 and "and 5 more; see them with --show-left-out" in done.stderr
    whole = run.invoke(command, ["import", str(path), "--show-left-out"])
    assert whole.stderr.count(f"  {path}:") == 10 and "more; see" not in whole.stderr
    assert f"  {path}:34: {AUTHORS}: We should hire more people.\n" in whole.stderr
    named = run.invoke(command, ["import", str(path), "--format", "list"])
    assert [p.text for p in parse_constitution(named.stdout.encode(), "f").principles] == [
        "be short",
        "be *kind*",
    ]
    shown = run.invoke(command, ["import", "--help"]).output
    assert "constitute constitution import model_spec.md" in shown and "--show-left-out" in shown


def test_priorities_of_several_files_that_contradict_are_refused(tmp_path: Path) -> None:
    for name, order in (("a", "high, low"), ("b", "low, high")):
        level = order.split(",")[0]
        text = f"name: n\npriorities: [{order}]\nprinciples:\n- id: {name}\n  text: t\n  priority: {level}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(DataError, match="order their priorities against each other"):
        import_files([tmp_path / "a.yaml", tmp_path / "b.yaml"])


def test_parts_left_out_are_ordered_by_line() -> None:
    assert sorted([LeftOut(2, ALLOWS, "b"), LeftOut(1, NOTHING, "a")])[0].line == 1
    assert json.dumps(LeftOut(1, "r", "t").__dict__) == '{"line": 1, "reason": "r", "text": "t"}'


def texts(tmp_path: Path, text: str) -> list[tuple[str, bool]]:
    return [(p.text, p.draft) for p in read(tmp_path, text, kind="prose").constitution.principles]


def test_rows_of_a_table_whose_cells_ask_are_read(tmp_path: Path) -> None:
    table = "# T\n\n| Topic | What to do |\n|---|:-:|\n| Prices | Quote the list. |\n| Team | Four people |\n"
    assert texts(tmp_path, table) == [("Prices: Quote the list.", False)]
    (left,) = read(tmp_path, table, kind="prose").left_out.values()
    assert [(part.line, part.text) for part in left] == [
        (3, "| Topic | What to do |\n|---|:-:|"),
        (6, "| Team | Four people |"),
    ]
    wordings = "Be kind.\n\n| Don't say | Say |\n|---|---|\n| You must pay. | Please pay. |\n"
    assert texts(tmp_path, wordings) == [("Be kind.", False)]


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        (
            "The helper can explain a bill, must never change one, and should pass on a dispute.",
            None,
        ),
        (
            "The helper must explain a bill, must not change one, and should pass on a dispute.",
            [
                "The helper must explain a bill.",
                "The helper must not change one.",
                "The helper should pass on a dispute.",
            ],
        ),
        ("Be brief; never lie.", ["Be brief.", "Never lie."]),
        ("Always discuss it; never lie.", ["Always discuss it.", "Never lie."]),
        ("If asked, give the price, and never haggle.", None),
        ("The helper must be kind and brief.", None),
    ],
)
def test_demands_of_one_sentence_that_stand_alone_are_split(
    tmp_path: Path, sentence: str, parts: list[str] | None
) -> None:
    assert [text for text, _ in texts(tmp_path, f"We sell plants.\n\n{sentence}")] == (parts or [sentence])


def test_an_it_of_nobody_gets_the_name_of_the_section_or_is_a_draft(tmp_path: Path) -> None:
    named = "# T\n\nThis is how our helper talks.\n\nIt must not haggle.\n\nIt is important to be kind."
    assert texts(tmp_path, named) == [
        ("Our helper must not haggle.", False),
        ("It is important to be kind.", False),
    ]
    assert texts(tmp_path, "We sell plants.\n\nIt must not haggle.") == [("It must not haggle.", True)]


def test_a_second_import_says_how_many_were_not_in_the_file(tmp_path: Path) -> None:
    rules, mine = tmp_path / "rules.md", tmp_path / "mine.yaml"
    rules.write_text("- Be kind.\n- Be brief.\n- Never haggle.\n")
    mine.write_text("name: n\nprinciples:\n- id: old\n  text: Be good.\n")
    first = CliRunner().invoke(command, ["import", str(rules), "--into", str(mine)])
    assert f"{mine}: 3 principles added at the end\n" in first.stderr and "was not in" not in first.stderr
    pruned = re.sub(r"\n- id: be-brief\n  text: Be brief\.\n", "\n", mine.read_text())
    assert pruned != mine.read_text()
    mine.write_text(pruned)
    second = CliRunner().invoke(command, ["import", str(rules), "--into", str(mine)])
    assert f"{mine}: 1 principle added at the end, 2 there already\n" in second.stderr
    assert "what was added was not in the file: it is new, or was taken out" in second.stderr
    third = CliRunner().invoke(command, ["import", str(rules), "--into", str(mine)])
    assert "0 principles added at the end, 3 there already" in third.stderr
    assert "was not in" not in third.stderr

"""Public formats there and back, `show` with counts, and imports into a file that has comments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.cli.constitution import constitution as group
from constitute.cli.main import main as entry  # noqa: F401  (the group is registered there)
from constitute.constitution import load_constitution, parse_constitution
from constitute.data.constitution_file import append_to_file
from constitute.data.constitution_out import export
from constitute.data.constitution_show import pick, principle_rows
from constitute.data.constitutions import import_constitution
from constitute.errors import DataError, UsageError
from constitute.types import Constitution, Principle

SUFFIX = {"markdown": ".md", "yaml": ".yaml"}
HELD = {
    "yaml": ("id", "text", "critique", "revise", "compare", "weight"),
    "cai-revise": ("id", "critique", "revise"),
    "cai-compare": ("compare",),
    "hf": ("critique", "revise"),
    "markdown": ("id", "text"),
    "salmon": ("id", "text", "weight"),
    "icai": ("text",),
}
WORD = st.text("abcdefgéß'", min_size=1, max_size=9).filter(lambda w: w.strip("'") == w)
SENTENCE = st.lists(WORD | st.sampled_from(["not", "{{x}}", "A,", "#3", "50%"]), min_size=3, max_size=9).map(
    lambda words: f"Say {' '.join(words)}."
)


@pytest.mark.parametrize("kind", sorted(HELD))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_a_format_holds_comes_back(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = data.draw(st.lists(st.tuples(*[SENTENCE] * 4), min_size=2, max_size=4, unique_by=lambda t: t[0]))
    made = Constitution(
        name="made",
        principles=tuple(
            Principle(
                id=f"rule-{i}",
                text=text,
                critique=f"{c[:-1]}!",
                revise=r,
                compare=f"Which reply: {p}",
                weight=i + 1,
            )
            for i, (text, c, r, p) in enumerate(texts)
        ),
    )
    text, _ = export(made, kind)
    file = tmp_path_factory.mktemp("format") / f"made{SUFFIX.get(kind, '.json')}"
    file.write_text(text, encoding="utf-8")
    back, _ = import_constitution([file])
    assert len(back.principles) == len(made.principles)
    for one, other in zip(made.principles, back.principles, strict=True):
        for field in HELD[kind]:
            assert getattr(other, field) == getattr(one, field), field


def test_show_counts_what_the_model_reads(tmp_path: Path) -> None:
    whole = load_constitution("harmless")
    rows = principle_rows(pick(whole, ["no-assist-acts-cruelty"]), whole, tokens=lambda text: text.count("e"))
    (row,) = rows
    read = row["reads"]["critique"]
    assert row["lengths"]["critique"] == {
        "tokens": read.count("e"),
        "words": len(read.split()),
        "characters": len(read),
    }
    assert row["drawn"] == pytest.approx(1 / 14)
    assert row["filled"] == []
    bare = Constitution(
        name="c",
        principles=(Principle.model_validate(_bare("a", 1)), Principle.model_validate(_bare("b", 3))),
    )
    assert [r["drawn"] for r in principle_rows(bare)] == [0.25, 0.75]
    assert principle_rows(bare)[0]["filled"] == ["critique", "revise", "compare"]
    assert "tokens" not in principle_rows(bare)[0]["lengths"]["compare"]


def _bare(name: str, weight: float) -> Principle:
    file = f"name: c\nprinciples:\n  - id: {name}\n    text: Be kind.\n    weight: {weight}\n"
    return parse_constitution(file.encode(), "f").principles[0]


def test_show_prints_tokens_of_the_model_and_refuses_what_it_cannot_count() -> None:
    pytest.importorskip("transformers")
    done = CliRunner().invoke(group, ["show", "harmless", "--model", "pocket", "--json", "--tag", "harmful"])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert len(rows) == 14 and all(0 < r["lengths"]["compare"]["tokens"] < 200 for r in rows)
    refused = CliRunner().invoke(group, ["show", "harmless", "--model", "http://localhost:1"])
    assert isinstance(refused.exception, UsageError) and "--tokenizer" in str(refused.exception)
    unknown = CliRunner().invoke(group, ["show", "harmless", "--principle", "no-asist-acts-cruelty"])
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
    with pytest.raises(DataError):
        append_to_file(file, load_constitution("concise").principles)
    assert file.read_text() == "name: ["

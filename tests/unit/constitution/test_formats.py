"""Constitutions in public formats: imported, exported, and round trips that keep the meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from places import SHARED
from registry_examples import add_module, example

from constitute.cli.constitution.group import constitution as command
from constitute.constitution.formats import FORMATS
from constitute.constitution.formats.base import Source
from constitute.constitution.formats.convert import export, import_constitution
from constitute.constitution.formats.markdown import MARKDOWN as PAGE
from constitute.constitution.priority import DEFAULT_LEVELS
from constitute.constitution.read import fill_form, parse_constitution
from constitute.constitution.write import to_yaml
from constitute.errors import DataError, UsageError
from constitute.types import Constitution, Example, Principle, Probe

FORMS = ("critique", "revise", "compare")
CAI = SHARED / "cai"
needs_cai = pytest.mark.skipif(not CAI.is_dir(), reason="the paper's files are not at ../shared/data/cai")

# What the reader lets through: no control characters but tab and newline, no lone surrogates.
TEXT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), whitelist_characters="\n\t")
    | st.sampled_from("\n -:#'\"{}[]|>&*!%@`,?"),
    min_size=1,
    max_size=120,
).filter(lambda text: text.strip() == text)
WORDS = st.lists(TEXT, max_size=3).map(tuple)


@st.composite
def principles(draw):
    text = draw(TEXT)
    forms = {form: draw(TEXT | st.just(fill_form(form, text))) for form in ("critique", "revise", "compare")}
    probes = draw(st.lists(st.builds(Probe, prompt=TEXT, expect=TEXT | st.just("")), max_size=2))
    critique = TEXT | st.just("")
    shown = st.builds(Example, prompt=TEXT, better=TEXT, worse=TEXT, critique=critique)
    examples = draw(st.lists(shown.filter(lambda each: each.better != each.worse), max_size=2))
    weight = draw(st.floats(1e-9, 1000) | st.sampled_from([1.0, 2.0, 0.5]))
    return {
        **forms,
        "text": text,
        "weight": weight,
        "tags": draw(WORDS),
        "source": draw(TEXT | st.just("")),
        "priority": draw(st.sampled_from(["", *DEFAULT_LEVELS])),
        "draft": draw(st.booleans()),
        "probes": tuple(probes),
        "examples": tuple(examples),
    }


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT | st.just(""), st.lists(principles(), min_size=1, max_size=3))
def test_yaml_round_trip_keeps_everything(name, description, drawn):
    made = Constitution(
        name=name,
        description=description,
        principles=tuple(Principle(id=f"p{i}", **values) for i, values in enumerate(drawn)),
    )
    assert parse_constitution(to_yaml(made).encode(), "f.yaml") == made


def flat(text: str) -> str:
    """A text as a list on paper holds it: on one line."""
    return " ".join(text.split())


# What each format holds of a principle, as it comes back; YAML is tested above.
KEPT = {
    "cai-revise": lambda p: (p.id, p.critique, p.revise),
    "cai-compare": lambda p: p.compare,
    "hf": lambda p: (p.critique, p.revise),
    "list": lambda p: (p.id, flat(p.text.replace("**", ""))),
    "markdown": lambda p: p,
    "salmon": lambda p: (p.id, p.text, p.weight),
    "icai": lambda p: flat(p.text),
}
# What the formats put before and after a text, and what Markdown would read as more than text.
ODD = st.sampled_from(
    [
        "CritiqueRequest: find it. Critique:",
        "Critique: RevisionRequest: mend it.\n\nRevision:",
        "Choose. Options: Options:",
        "- be good",
        "# heading",
        "1. one",
        "P2: two",
        "**label**: said",
        "a  b\n\n- c",
        "\u2028x\xa0".strip(),
        "“”😀",
    ]
)
IDS = st.lists(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True), min_size=1, max_size=3, unique=True
)


@pytest.mark.parametrize("kind", sorted(KEPT))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), ids=IDS)
def test_what_a_format_holds_comes_back_equal(tmp_path, data, kind, ids):
    words = [data.draw(TEXT | ODD) for _ in range(6)]
    made = Constitution(
        name=words[4],
        description=words[5],
        principles=tuple(
            Principle(
                id=i, text=words[at], critique=words[1], revise=words[2], compare=words[3], weight=at + 0.5
            )
            for at, i in enumerate(ids)
        ),
    )
    assume(kind != "list" or all(flat(p.text.replace("**", "")) for p in made.principles))
    path = tmp_path / ("f.md" if kind in ("list", "markdown") else "f.json")
    path.write_text(export(made, kind)[0], encoding="utf-8", newline="")
    loaded, _ = import_constitution([path])
    assert list(map(KEPT[kind], loaded.principles)) == list(map(KEPT[kind], made.principles))
    assert parse_constitution(to_yaml(loaded).encode(), "f.yaml") == loaded


@settings(max_examples=150, deadline=None)
@given(
    TEXT,
    TEXT | st.just(""),
    st.lists(principles(), min_size=1, max_size=3),
    st.lists(TEXT, min_size=1, max_size=3, unique=True),
    st.data(),
)
def test_a_page_for_people_loses_nothing(name, description, drawn, levels, data) -> None:
    own = data.draw(st.booleans())
    if own:
        drawn = [values | {"priority": data.draw(st.sampled_from(["", *levels]))} for values in drawn]
    whole = Constitution(
        name=name,
        description=description,
        priorities=tuple(levels) if own else (),
        principles=tuple(Principle(id=f"p{i}", **values) for i, values in enumerate(drawn)),
    )
    text, notes = export(whole, "markdown")
    assert notes == []
    found = PAGE.read(Source(Path("f.md"), text.encode()))
    assert (found.title, found.description, found.left_out) == (name, description, [])
    assert found.priorities == whole.priorities
    back = {draft.id: draft for draft in found.drafts}
    assert len(back) == len(whole.principles)
    for p in whole.principles:
        draft = vars(back[p.id])
        forms = {form: draft[form] or fill_form(form, p.text) for form in FORMS}
        assert Principle.model_validate({**draft, **forms}) == p


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("hf", "critique", "Say why. Critique:"),
        ("hf", "revise", "RevisionRequest: do so"),
        ("cai-compare", "compare", "CritiqueRequest: which?"),
        ("cai-revise", "critique", "Critique: why? Critique:"),
        ("cai-revise", "id", "ends-"),
        ("list", "id", "two--hyphens_"),
        ("markdown", "id", "two--hyphens_"),
        ("salmon", "id", "two--hyphens_"),
        ("icai", "text", "**label**: 2. **said**"),
    ],
)
def test_what_looks_like_marks_is_text(tmp_path, kind, field, value):
    made = small().principles[0].model_copy(update={field: value})
    text, _ = export(small().model_copy(update={"principles": (made,)}), kind)
    path = tmp_path / ("f.md" if kind in ("list", "markdown") else "f.json")
    path.write_text(text, encoding="utf-8")
    (back,) = import_constitution([path])[0].principles
    assert getattr(back, field) == value


@pytest.mark.parametrize(
    "description", ["- be good", "3. be good", "P1: be good", "# be good", "-1 is bad", "#1 rule"]
)
def test_a_description_never_becomes_a_principle(tmp_path, description):
    made = small().model_copy(update={"name": "two\nlines", "description": description})
    text, _ = export(made, "list")
    loaded, _ = read(tmp_path, "f.md", text)
    assert ("\\" in text) == (description not in ("-1 is bad", "#1 rule"))
    assert (loaded.name, [p.id for p in loaded.principles]) == ("two lines", ["kind", "true"])
    assert loaded.description.removeprefix("\\") == description


def small() -> Constitution:
    return Constitution(
        name="small",
        description="Two of them.",
        principles=(
            Principle(
                id="kind", text="Be kind.", critique="Say it.", revise="Mend it.", compare="Choose it."
            ),
            Principle(id="true", text="Be true.", weight=2.0, **{f: fill_form(f, "Be true.") for f in FORMS}),
        ),
    )


def test_yaml_leaves_out_what_the_template_gives_and_defaults():
    assert to_yaml(small()) == (
        "name: small\ndescription: Two of them.\n\nprinciples:\n"
        "  - id: kind\n    text: Be kind.\n"
        "    critique: Say it.\n    revise: Mend it.\n    compare: Choose it.\n\n"
        '  - id: "true"\n    text: Be true.\n    weight: 2\n'
    )


def read(tmp_path, name: str, content: str, *more: Path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return import_constitution([path, *more])


def test_critique_revision_and_comparison_files_are_paired(tmp_path):
    rows = {
        "harmful0": {
            "prompt": ["\n\nCritiqueRequest: Find it.\n\nCritique:"],
            "edit_request": "\n\nRevisionRequest: Mend: it.\n\nRevision:",
        },
        "harmful1": {"prompt": ["Look.", "Look again."], "edit_request": "Rewrite."},
    }
    second = tmp_path / "rl.json"
    second.write_text(
        json.dumps(["\nPlease choose one. Options:", "\nWhich is it? Options:", "\nPick. Options:"])
    )
    loaded, notes = read(tmp_path, "sl.json", json.dumps(rows), second)
    got = [(p.id, p.text, p.critique, p.revise, p.compare, p.weight) for p in loaded.principles]
    assert got == [
        ("harmful0", "Mend: it.", "Find it.", "Mend: it.", "Please choose one.", 1.0),
        ("harmful1", "Rewrite.", "Look.", "Rewrite.", "Which is it?", 0.5),
        ("harmful1-2", "Rewrite.", "Look again.", "Rewrite.", "Pick.", 0.5),
    ]
    assert notes == ["3 critique-revision and comparison instructions paired by position"]


@needs_cai
def test_the_papers_files_come_back_byte_for_byte():
    revising, comparing = CAI / "CritiqueRevisionInstructions.json", CAI / "RLMadisonInstructions.json"
    loaded, _ = import_constitution([revising, comparing], "cai")
    assert len(loaded.principles) == 16
    assert parse_constitution(to_yaml(loaded).encode(), "cai.yaml") == loaded
    assert export(loaded, "cai-revise")[0] == revising.read_text()
    assert export(loaded, "cai-compare")[0] == comparing.read_text()
    last = loaded.principles[15]
    assert last.critique.startswith("Critique the assistant's last response and identify anything it said")
    assert last.compare.endswith(
        "without sounding excessively condescending, reactive, annoying or condemnatory."
    )


@needs_cai
@pytest.mark.parametrize("name", ["RLMadisonFewShotPrompts.json", "CritiqueRevisionFewShotPrompts.json"])
def test_the_papers_other_files_are_refused(name):
    with pytest.raises((UsageError, DataError), match=name):
        import_constitution([CAI / name])


def test_llm_swarm(tmp_path):
    content = {"constitutions": [{"critic": "Discuss it.", "revision": "Revise it."}], "system_chat": [[{}]]}
    loaded, notes = read(tmp_path, "hf.json", json.dumps(content))
    (only,) = loaded.principles
    assert (only.id, only.text, only.critique, only.revise) == (
        "revise-it",
        "Revise it.",
        "Discuss it.",
        "Revise it.",
    )
    assert only.compare == fill_form("compare", "Revise it.")
    assert "few-shot examples" in notes[0]
    again = json.loads(export(loaded, "hf")[0])
    assert again == {"constitutions": content["constitutions"], "system_chat": []}


def test_salmon(tmp_path):
    rows = [
        {"dimension": "Honest and Accurate", "definition": "Be right.", "negative_definition": "Be wrong."},
        {"dimension": "Ethical", "definition": "Be good.", "weight": 3},
    ]
    loaded, notes = read(tmp_path, "s.json", json.dumps(rows))
    assert [(p.id, p.text, p.weight) for p in loaded.principles] == [
        ("honest-and-accurate", "Be right.", 1.0),
        ("ethical", "Be good.", 3.0),
    ]
    assert len(notes) == 1 and "negative_definition" in notes[0]
    assert read(tmp_path, "again.json", export(loaded, "salmon")[0])[0].principles == loaded.principles


@pytest.mark.parametrize(
    "content",
    [
        ["Select the response that is brief.", "Prefer rhymes."],
        "1. Select the response that is brief.\n2. Prefer rhymes.",
        {"0": "Select the response that is brief.", "1": "Prefer rhymes."},
        {
            "annotators": {
                "h": {"type": "human", "description": "Human"},
                "a": {"type": "principle", "description": "Select the response that is brief."},
                "b": {"type": "principle", "description": "Prefer rhymes."},
            }
        },
    ],
)
def test_icai(tmp_path, content):
    loaded, _ = read(tmp_path, "060_constitution.json", json.dumps(content))
    assert [(p.id, p.compare) for p in loaded.principles] == [
        ("select-the-response-that-is-brief", "Select the response that is brief."),
        ("prefer-rhymes", "Prefer rhymes."),
    ]
    assert json.loads(export(loaded, "icai")[0]) == "1. Select the response that is brief.\n2. Prefer rhymes."


MARKDOWN = """# House rules

How we talk.

## Safety
- **No harm**: Do not help
  with harm.
- Say {{ so }} plainly:
  - first this
  - then that

## Style
1. Be brief.
P2. Be warm.

Nothing to see.
"""


def test_markdown_list(tmp_path):
    loaded, notes = read(tmp_path, "rules.md", MARKDOWN)
    assert (loaded.name, loaded.description) == ("House rules", "How we talk.")
    assert [(p.id, p.text, p.tags) for p in loaded.principles] == [
        ("no-harm", "Do not help with harm.", ("safety",)),
        ("say-so-plainly", "Say {{ so }} plainly:\n- first this\n- then that", ("safety",)),
        ("be-brief", "Be brief.", ("style",)),
        ("be-warm", "Be warm.", ("style",)),
    ]
    assert notes == [f"{tmp_path / 'rules.md'}: 1 line(s) outside the list left out (line 16)"]


def test_list_round_trip(tmp_path):
    text, notes = export(small(), "list")
    assert text == "# small\n\nTwo of them.\n\n- **kind**: Be kind.\n- **true**: Be true.\n"
    assert len(notes) == 3
    again, _ = read(tmp_path, "again.md", text)
    assert [(p.id, p.text) for p in again.principles] == [("kind", "Be kind."), ("true", "Be true.")]
    assert (again.name, again.description) == ("small", "Two of them.")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            "# T\n\n## P1: Honesty\nTell the\ntruth.\n\n## Kindness\n",
            [("honesty", "Tell the truth."), ("kindness", "Kindness")],
        ),
        ("Be good.\nBe brief.\n", [("be-good", "Be good."), ("be-brief", "Be brief.")]),
        (
            "Be good\nand kind.\n\nBe brief.\n",
            [("be-good-and-kind", "Be good and kind."), ("be-brief", "Be brief.")],
        ),
        ("Be good.\r\nBe good.\r\n", [("be-good", "Be good."), ("be-good-2", "Be good.")]),
        ("正直に。\n", [("principle-1", "正直に。")]),
    ],
)
def test_plain_text(tmp_path, content, found):
    loaded, _ = read(tmp_path, "rules.txt", content)
    assert [(p.id, p.text) for p in loaded.principles] == found


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.json", "{", r"a\.json:1:2: not JSON"),
        ("a.json", "[" * 100_000, "a.json: nested too deep"),
        ("a.json", "[1]", "not a constitution in a known format"),
        ("a.json", "[]", "not a constitution in a known format"),
        ("a.json", '""', "no principle was found"),
        ("a.json", '{"constitutions": []}', "no principle was found"),
        ("a.json", '{"constitutions": [3]}', r"constitutions\[0\] is 3"),
        (
            "a.json",
            '{"constitutions": [{"critic": "x"}]}',
            r"constitutions\[0\]\.revision is None; it must be text",
        ),
        ("a.json", '{"h": {"prompt": [""], "edit_request": "x"}}', r"h\.prompt is empty"),
        ("a.json", '{"h": {"prompt": [], "edit_request": "x"}}', "no principle was found"),
        ("a.json", '["a\\u0000"]', r"U\+0000"),
        ("a.json", '["a\\ufffe"]', r"U\+FFFE"),
        ("a.json", '[{"definition": "x", "weight": "y"}]', "weight is 'y'"),
        ("a.md", "\n\n", "the file is empty"),
        ("a.yaml", "nme: x\n", "did you mean 'name'"),
    ],
)
def test_bad_imports(tmp_path, name, content, what):
    with pytest.raises((DataError, UsageError), match=what):
        read(tmp_path, name, content)


def test_white_space_is_read_in_linear_time(tmp_path):
    loaded, _ = read(tmp_path, "f.json", json.dumps(["Be" + " " * 200_000 + "good. Options:"]))
    assert loaded.principles[0].compare == "Be" + " " * 200_000 + "good."


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match=r"no such file: .*none\.json"):
        import_constitution([tmp_path / "none.json"])


def test_commands(tmp_path):
    run, source = CliRunner(), tmp_path / "rules.txt"
    source.write_text("Be good.\nBe brief.\n")
    out = str(tmp_path / "rules.yaml")
    assert run.invoke(command, ["import", str(source), "-o", out]).exit_code == 0
    again = run.invoke(command, ["import", str(source), "-o", out])
    assert isinstance(again.exception, UsageError) and "rules.yaml exists already" in str(again.exception)
    assert run.invoke(command, ["check", out]).output.startswith("rules: 2 principles, hash ")
    shown = [json.loads(line) for line in run.invoke(command, ["show", out, "--json"]).output.splitlines()]
    *rows, last = shown
    assert [row["id"] for row in rows] == ["be-good", "be-brief"]
    sizes = [length for row in rows for length in row["lengths"].values()]
    assert last == {
        "totals": {
            "forms": 6,
            "filled": 6,
            "words": sum(size["words"] for size in sizes),
            "characters": sum(size["characters"] for size in sizes),
        }
    }
    assert shown[0]["reads"]["revise"] == (
        "Here is a principle for an assistant: Be good.\n"
        "Rewrite your last reply so that it keeps to this principle.\nWrite only the new reply."
    )
    assert "be-brief (weight 1, drawn 50.0%)" in run.invoke(command, ["show", out]).output
    for kind in FORMATS:
        assert "Be good." in run.invoke(command, ["export", out, "--format", kind]).output


def test_a_format_of_a_module_of_its_own_is_one_line_in_the_registry(tmp_path, monkeypatch):
    add_module(monkeypatch, "office_rules", example("A format of constitutions"))
    run, file, out = CliRunner(), tmp_path / "ours.rules", str(tmp_path / "ours.yaml")
    file.write_text("!rules Ours\nkind;2;Be kind.\nbrief;0.5;Be brief.\n")
    unknown = run.invoke(command, ["import", str(file)]).exception
    assert isinstance(unknown, UsageError) and "has the ending '.rules' and is in no known" in str(unknown)
    assert str(run.invoke(command, ["export", "pocket/harmless", "--format", "office"]).exception).startswith(
        "no such format of constitutions: 'office'; known: yaml, markdown"
    )
    monkeypatch.setitem(FORMATS, "office", "office_rules:RULES")
    done = run.invoke(command, ["import", str(file), "-o", out])
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, f"note: {file}: colours are left out")
    found = parse_constitution(Path(out).read_bytes(), out)
    assert [(p.id, p.text, p.weight) for p in found.principles] == [
        ("kind", "Be kind.", 2.0),
        ("brief", "Be brief.", 0.5),
    ]
    assert run.invoke(command, ["export", out, "--format", "office"]).stdout == file.read_text()
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"\x00\xff")
    refused = str(run.invoke(command, ["import", str(odd)]).exception)
    assert refused == (
        f"{odd} has the ending '.bin' and is in no known format; known are constitution YAML, a "
        "constitution's own page in Markdown (.md), the OpenAI Model Spec's Markdown, lists in Markdown or "
        "plain text (.md, .txt), prose in Markdown or plain text (.md, .txt), the Constitutional AI paper's "
        "CritiqueRevisionInstructions.json, its RLMadisonInstructions.json, llm-swarm JSON, SALMON JSON, "
        "ICAI JSON, the rules of our office (.rules)"
    )


def test_several_yaml_files_become_one_with_everything(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    update = {
        "priority": "root",
        "probes": (Probe(prompt="Hi?"),),
        "examples": (Example(prompt="Hi?", better="Hello.", worse="No."),),
    }
    made = small().principles[0].model_copy(update=update)
    first.write_text(to_yaml(small().model_copy(update={"principles": (made,)})))
    second.write_text(to_yaml(small()))
    loaded, notes = import_constitution([first, second])
    assert notes == []
    assert loaded.principles[0] == made
    assert [p.id for p in loaded.principles] == ["kind", "kind-2", "true"]

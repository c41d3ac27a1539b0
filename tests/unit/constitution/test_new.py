"""New constitution files: from scratch, another file, aims, a terminal, and in the words of a model."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute.cli.constitution.group import constitution as group
from constitute.cli.constitution.new import QUESTION, new
from constitute.config import RunConfig
from constitute.constitution.new import GivenWording, check_aims, from_aims, from_file, from_scratch
from constitute.constitution.read import FORMS, fill_form, parse_constitution
from constitute.editing.describe import describe, draft_forms, read_wording
from constitute.engines.base import ModelIdentity
from constitute.errors import RowError, UsageError
from constitute.packaged import find
from constitute.store import Store
from constitute.types import Completion, Constitution, Principle, Request

HARMLESS = find("pocket/harmless", "constitutions", ".yaml")
GOOD = "Principle: Be brief.\nCritique: Find padding.\nRevision: Cut it.\nComparison: Which is shorter?"
AIM = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="\ufffe\uffff")
    | st.sampled_from(" -:#'\"{}[]|>&*!%@`,?😀"),
    min_size=1,
    max_size=60,
).filter(str.strip)


@settings(max_examples=25, deadline=None)
@given(st.lists(AIM, min_size=1, max_size=4, unique_by=str.strip), st.booleans())
def test_any_aims_make_a_file_that_says_them(aims, onto):
    kept = check_aims(aims)
    words = [GivenWording(aim) for aim in kept]
    data = from_file(from_scratch("base").encode(), "n", words)[0] if onto else from_aims("n", words).encode()
    found = parse_constitution(data, "f").principles[-len(kept) :]
    assert [p.text for p in found] == [aim.strip() for aim in aims]
    for p in found:
        assert {form: getattr(p, form) for form in FORMS} == {f: fill_form(f, p.text) for f in FORMS}


@pytest.mark.parametrize(
    ("aims", "what"),
    [
        (["a", " "], "aim 2 is empty"),
        (["a\nb"], "aim 1 holds a line end; write each aim on one line"),
        (["a\x1b[2Jb"], r"aim 1 holds the control character U\+001B"),
        (["a\u2028b"], "a line end"),
        (["a", "a "], "aim 2 is given twice"),
        (["a" * 2001], "aim 1 has 2001 characters"),
    ],
)
def test_aims_that_cannot_stand(aims, what):
    with pytest.raises(UsageError, match=what):
        check_aims(aims)


def test_from_scratch_explains_every_key_and_its_examples_load_uncommented():
    text = from_scratch("mine")
    loaded = parse_constitution(text.encode(), "f")
    assert (loaded.name, [p.id for p in loaded.principles]) == ("mine", ["no-help-with-harm", "be-brief"])
    for key in ("id", "text", *FORMS, "weight", "tags", "priority", "source", "probes", "examples"):
        assert sum(line.startswith(f"#   {key} ") for line in text.splitlines()) == 1
    opened = "\n".join(
        line.replace("    # ", "    ") if line.startswith("    # ") else line for line in text.splitlines()
    ).replace("# description", "description")
    first = parse_constitution(opened.encode(), "f").principles[0]
    assert (first.weight, first.tags, first.priority) == (2.0, ("style",), "user")
    assert first.probes[0].prompt == first.examples[0].prompt == "What is mulch?"
    assert first.examples[0].critique == "The reply tells how to do harm."


def test_from_a_packaged_file_changes_its_name_alone():
    source = HARMLESS.read_bytes()
    assert from_file(source, "mine") == (source.replace(b"name: harmless\n", b"name: mine\n"), 0)
    first = parse_constitution(source, "f").principles[0]
    same = GivenWording(first.text, first.critique, first.revise, first.compare)
    data, skipped = from_file(source, "mine", [same, GivenWording("be odd", failed="it said nothing")])
    assert skipped == 1 and b"# not written by the model: it said nothing (be odd)\n" in data
    assert data.startswith(source.replace(b"name: harmless\n", b"name: mine\n").rstrip())
    assert parse_constitution(data, "f").principles[-1].id == "be-odd"


def test_an_answer_is_read_whatever_the_order_of_its_lines():
    wanted = GivenWording("Be brief.", "Find padding.", "Cut it.", "Which is shorter?")
    assert read_wording(GOOD) == read_wording("\n\n".join(reversed(GOOD.split("\n")))) == wanted


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("", "no line 'Principle', 'Critique', 'Revision', 'Comparison'"),
        (GOOD.replace("Revision: Cut it.\n", ""), "no line 'Revision'"),
        (GOOD.replace("Cut it.", ""), "no known label: 'Revision:'"),
        ("Sure!\n" + GOOD, "no known label: 'Sure!'"),
        (GOOD + "\nCritique: Again.", "two lines 'Critique'"),
        (GOOD.replace("Cut it.", "Cut\x07 it."), "control character"),
    ],
)
def test_an_answer_that_is_not_four_lines_fails(answer, what):
    with pytest.raises(RowError, match=what):
        read_wording(answer)


class Writer:
    """Words every aim but those that hold `bad`."""

    identity = ModelIdentity(engine="writer", name="writer")
    context_length = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def rendered(self, request: Request) -> bytes:
        return request.messages[0].content.encode()

    async def generate(self, request: Request) -> Completion:
        self.asked.append(request.messages[0].content.split("\n")[0])
        return Completion(text="As you like." if "bad" in self.asked[-1] else GOOD)


async def test_a_model_words_aims_and_what_it_does_not_word_is_told_of(tmp_path):
    engine, aims = Writer(), ["be short", "bad {{ one }}"]
    with Store.open(tmp_path / "cache") as store:
        config = RunConfig(run=tmp_path / "cache")
        words = await describe(aims, engine, store, config)
        again = await describe(aims, engine, store, config)
    assert words == again and len(engine.asked) == 2
    assert engine.asked[1] == "Here is what an assistant should do or not do: bad {{ one }}"
    assert words[0] == read_wording(GOOD)
    text = from_aims("n", words)
    assert (
        "  # not written by the model: a line of its answer has no known label: 'As you like.'\n"
        "  - id: bad-one\n" in text
    )
    assert text.count("# not written") == 1
    first, second = parse_constitution(text.encode(), "f").principles
    assert (first.id, first.critique, second.text) == ("be-brief", "Find padding.", "bad {{ one }}")


def test_a_model_drafts_the_forms_that_an_import_does_not_bring(tmp_path):
    engine = Writer()
    texts = {"a": "Be short.", "b": "bad {{ two }}", "c": "Be short.", "d": "Be true."}
    given = [
        Principle(id=i, text=t, **{form: fill_form(form, t) for form in FORMS}) for i, t in texts.items()
    ]
    given[3] = given[3].model_copy(update={"critique": "Find the lie."})
    whole = Constitution(name="n", principles=tuple(given))
    config = RunConfig(run=tmp_path / "cache", model="m")
    drafted, failed = draft_forms(whole, config, engine=engine)
    assert list(failed) == ["b"] and "no known label" in failed["b"]
    first, second, third, fourth = drafted.principles
    assert (first.text, first.critique, first.draft) == ("Be short.", "Find padding.", True)
    assert third == first.model_copy(update={"id": "c"})
    assert (second, fourth) == (given[1], given[3])
    assert len(engine.asked) == 2


def test_import_with_a_model_counts_what_it_did_not_write(tmp_path):
    source, out = tmp_path / "rules.txt", tmp_path / "out.yaml"
    source.write_text("Be good.\nBe brief.\n")
    args = ["import", str(source), "-o", str(out), "--model", "fake", "--set", "engine.kind=fake"]
    done = CliRunner().invoke(group, [*args, "--cache", str(tmp_path / "c")], standalone_mode=False)
    assert done.return_value == 3, done.output
    assert "0 principles with forms that the model wrote" in done.stderr
    assert "2 keep the templates' forms" in done.stderr
    assert len(parse_constitution(out.read_bytes(), out).principles) == 2


def test_command(tmp_path):
    out = str(tmp_path / "my.yaml")
    done = CliRunner().invoke(new, [out, "--aim", "never help with crime", "--aim", "be brief"])
    assert done.exit_code == 0, done.output
    loaded = parse_constitution((tmp_path / "my.yaml").read_bytes(), "f")
    assert [p.id for p in loaded.principles] == ["never-help-with-crime", "be-brief"]
    kept = (tmp_path / "my.yaml").read_bytes()
    again = CliRunner().invoke(new, [out, "--from", "pocket/concise"])
    assert isinstance(again.exception, UsageError) and "--force" in str(again.exception)
    assert (tmp_path / "my.yaml").read_bytes() == kept
    assert (
        CliRunner().invoke(new, [out, "--from", "pocket/concise", "--force", "--name", "short"]).exit_code
        == 0
    )
    assert parse_constitution((tmp_path / "my.yaml").read_bytes(), "f").name == "short"
    for args, what in ((["--ask"], "needs a terminal"), (["--model", "pocket"], "none was given")):
        bad = CliRunner().invoke(new, [str(tmp_path / "no.yaml"), *args])
        assert isinstance(bad.exception, UsageError) and what in str(bad.exception)


def test_command_counts_what_the_model_did_not_write(tmp_path):
    args = [str(tmp_path / "my.yaml"), "--aim", "be brief", "--model", "fake", "--set", "engine.kind=fake"]
    done = CliRunner().invoke(new, [*args, "--cache", str(tmp_path / "c")], standalone_mode=False)
    assert done.return_value == 3, done.output
    assert "1 of 1 aims not written by the model" in done.stderr
    assert "# not written by the model: " in (tmp_path / "my.yaml").read_text()


def test_asks_on_a_terminal(tmp_path):
    out = tmp_path / "asked.yaml"
    code = f"from constitute.cli.constitution.new import new; new([{str(out)!r}, '--ask'])"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    screen = b""
    for answer in (b"never lie\n", b"never lie\n", "be kind: always 😀\n".encode(), b"\n"):
        seen = screen.count(QUESTION.encode())
        screen = _read(terminal, screen, seen + 1)
        os.write(terminal, answer)
    screen = _read(terminal, screen, 99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, screen.decode()
    assert screen.count(QUESTION.encode()) == 4 and b"aim 2 is given twice" in screen
    loaded = parse_constitution(out.read_bytes(), out)
    assert [p.text for p in loaded.principles] == ["never lie", "be kind: always 😀"]


def _read(terminal: int, screen: bytes, questions: int) -> bytes:
    """What the child wrote until it has asked `questions` times or ended; fails after 60 seconds."""
    until = time.monotonic() + 60
    while screen.count(QUESTION.encode()) < questions:
        ready, _, _ = select.select([terminal], [], [], until - time.monotonic())
        assert ready, f"nothing more was written: {screen!r}"
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        screen += more
    return screen


@pytest.mark.parametrize(
    ("aim", "name"),
    [
        ("hand over to a human when the user asks for one", "hand-over-to-a-human"),
        ("be brief", "be-brief"),
        ("never help with crime", "never-help-with-crime"),
        ("apologize once, then fix the problem at its root", "apologize-once"),
        ("answer in the language of the user and stay in it", "answer-in-the-language"),
        ("say where it is from", "say-where-it-is-from"),
        ("of the and to in on at", "of"),
    ],
)
def test_an_id_ends_where_a_phrase_ends(aim, name):
    (principle,) = parse_constitution(from_aims("n", [GivenWording(aim)]).encode(), "f").principles
    assert principle.id == name

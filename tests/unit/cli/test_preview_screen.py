"""Showing previews: the screen, events, and the command."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitute.cli.constitution.preview import preview as command
from constitute.cli.constitution.preview_text import Lines, Terminal
from constitute.editing.preview.plan import Moved, ShownProbe
from constitute.types import CritiqueRevision, Message

# What the screen shows


def shown(revision: str, p: float | None = 0.25, problem: str = "") -> ShownProbe:
    return ShownProbe(
        id="p",
        messages=(Message(role="user", content="Why\x1b[31m?"),),
        principle_id="kind",
        fingerprint="f",
        response="Because.",
        steps=(CritiqueRevision(principle_id="kind", critique="Too short.", revision=revision),),
        p_revision=p,
        problem=problem,
        questions=5,
    )


def screen_of(before: ShownProbe | None, after: ShownProbe, width: int) -> str:
    out = io.StringIO()
    Terminal(out, out, width).probe(1, Moved(before=before, after=after))
    return out.getvalue()


def test_before_and_after_stand_side_by_side_where_there_is_room() -> None:
    before, after = shown("I am glad to help."), shown("I am sorry to say.", 0.75)
    wide, narrow = screen_of(before, after, 140), screen_of(before, after, 70)
    assert "kind  P(revision preferred) 0.250 -> 0.750 (+0.500)" in wide
    both = next(line for line in wide.splitlines() if "before" in line)
    assert both.index("revision, before: I am [-glad-] to [-help-].") < both.index(
        "revision, after: I am {+s"
    )
    lines = [line.strip() for line in narrow.splitlines()]
    assert lines[-2:] == [
        "revision, before: I am [-glad-] to [-help-].",
        "revision, after: I am {+sorry+} to {+say+}.",
    ]
    # What did not move is said once.
    assert wide.count("Because.") == narrow.count("Too short.") == 1
    assert "\x1b" not in wide + narrow and "Why?" in wide


def test_a_terminal_gets_colours_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    moved = Moved(before=shown("I am glad."), after=shown("I am sorry."))
    coloured, plain = Tty(), Tty()
    Terminal(coloured, coloured, 120).probe(1, moved)
    monkeypatch.setenv("NO_COLOR", "1")
    Terminal(plain, plain, 120).probe(1, moved)
    assert "\x1b[1;32m" in coloured.getvalue() and "{+" not in coloured.getvalue()
    assert "\x1b" not in plain.getvalue() and "{+sorry+}." in plain.getvalue()


def test_what_is_piped_is_neither_filled_up_nor_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = io.StringIO()
    long = "I am sorry to say " + "so much " * 40 + "at once.\nAnd more."
    Terminal(out, out).probe(1, Moved(before=None, after=shown(long)))
    lines = out.getvalue().splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert f"  revision: {long.splitlines()[0]}" in lines and lines[-1] == "  And more."


def test_a_lost_preference_and_a_result_that_stayed() -> None:
    lost = screen_of(shown("a b"), shown("a b", None, "the two answers are equal"), 80)
    assert "P(revision preferred) 0.250 -> -" in lost
    assert "no preference: the two answers are equal" in lost
    assert screen_of(shown("a b"), shown("a b"), 80) == ""
    assert Moved(before=shown("a"), after=shown("a")).same
    assert not Moved(before=None, after=shown("a")).same


def test_events_are_lines_of_json() -> None:
    out = io.StringIO()
    Lines(out).probe(2, Moved(before=None, after=shown("a\u2028b")))
    assert len(out.getvalue().splitlines()) == 1
    event = json.loads(out.getvalue())
    assert (event["event"], event["edit"], event["id"], event["moved"]) == ("probe", 2, "p", True)
    assert event["after"]["steps"][0]["revision"] == "a\u2028b" and event["before"] is None


# The command


def invoke(tmp_path: Path, *options: str) -> tuple[int, list[dict[str, object]]]:
    args = [str(tmp_path / "c.yaml"), "--model", "m", "--set", "engine.kind=fake", "--json"]
    done = CliRunner().invoke(
        command, [*args, "--cache", str(tmp_path / "cache"), *options], standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    return done.return_value, [json.loads(line) for line in done.stdout.splitlines()]


def test_once_shows_all_and_the_next_time_what_moved(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "name: mine\nprinciples:\n  - id: kind\n    text: Be kind.\n  - id: brief\n    text: Be brief.\n"
    )
    code, events = invoke(tmp_path, "-n", "8")
    assert code == 0
    assert [event["event"] for event in events] == ["note", "round", *["probe"] * 8, "done"]
    assert (events[-1]["questions"], events[-1]["questions_asked"]) == (40, 40)
    assert events[2]["before"] is None and events[2]["after"]["messages"]
    file.write_text(file.read_text().replace("Be brief.", "Be very brief.") + "# a comment\n")
    _, events = invoke(tmp_path, "-n", "8")
    mine = [e for e in events if e["event"] == "probe" and e["after"]["principle_id"] == "brief"]
    assert mine and all(event["before"] is not None for event in mine)
    assert sum(event["event"] == "probe" for event in events) == 8
    assert events[-1]["questions_asked"] == 4 * len(mine)
    assert events[2]["edits"]["edited"] == ["brief"]


def test_the_command_refuses_what_it_cannot_preview(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: x\nprinciples: []\n")
    with pytest.raises(ValueError, match=r"c\.yaml:2:13: principles is an empty list"):
        invoke(tmp_path)
    for number in ("7", "33"):
        with pytest.raises(Exception, match="8<=x<=32"):
            invoke(tmp_path, "-n", number)

"""What commands say while a person waits."""

from __future__ import annotations

import io
import sys
import time

import pytest

from constitute.cli.text import chain_text, said_if_slow, table
from constitute.types import Outcome


def test_what_is_slow_is_said_once_and_what_is_quick_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with said_if_slow("reading a.yaml", after_s=5.0):
        pass
    assert capsys.readouterr().err == ""
    with said_if_slow("reading a.yaml", after_s=0.01):
        time.sleep(0.3)
    assert capsys.readouterr().err == "reading a.yaml …\n"


ROWS = [("label", 3, 1, 0, 2)]
HEAD = ("stage", "rows", "ok", "abstain", "failed")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Tty())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_counts_and_statuses_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    head, row = table(HEAD, ROWS).splitlines()
    assert head == "\x1b[1mstage  rows  ok  abstain  failed\x1b[0m"
    # Green, red; none abstained, so that stays plain.
    assert row == "label     3  \x1b[32m 1\x1b[0m        0  \x1b[31m     2\x1b[0m"
    assert "\x1b[33mabstain\x1b[0m" in table(("status", "rows"), [("abstain", 3)])
    # What a model wrote is no colour.
    assert "\x1b[7m" not in table(("status",), [("\x1b[7mfailed",)])


def test_a_chain_is_coloured_and_what_a_model_wrote_colours_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on_terminal(monkeypatch)
    outcome = Outcome(row_id="p\x1b[7m", position=0, status="failed", reason="cut\x1b[7m at 3")
    shown = chain_text([("generate", outcome)])
    assert shown == "\x1b[1m== generate p: \x1b[0m\x1b[31mfailed (cut at 3)\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_nothing_is_coloured_where_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    on_terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    assert "\x1b" not in table(HEAD, ROWS)


def test_nothing_is_coloured_where_it_is_piped() -> None:
    assert table(HEAD, ROWS).splitlines()[1] == "label     3   1        0       2"

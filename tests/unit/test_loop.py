"""The steps of the loop and what they say of themselves; the steps themselves run in the demo's tests."""

from __future__ import annotations

import pytest

from constitute.cli import run as command
from constitute.errors import UsageError
from constitute.loop import STEPS, Loop, headline, run_loop

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 40}
NONE = {"value": None, "low": None, "high": None, "n": 0}


def test_the_command_offers_the_steps_there_are():
    assert tuple(STEPS) == command.STEPS


@pytest.mark.parametrize(
    ("step", "figures", "words"),
    [
        ("data", {"label": {"ok": 3, "abstain": 2, "failed": 1}}, "label: 3 ok, 2 abstain, 1 failed"),
        ("export", {"sft": {"rows": 4}, "preferences": {"rows": 5}}, "4 sft rows; 5 preferences rows"),
        ("reward", {"held_out": {"accuracy": FIGURE}}, "held-out accuracy 0.50 (0.25 to 0.75, n = 40)"),
        ("reward", {"held_out": {}}, "no held-out pairs to measure on"),
        ("evals", {}, "no sets configured (evals.behaviors, evals.principles)"),
        ("evals", {"s": {"items": 6, "base": {"share": FIGURE}, "ppo": {"share": NONE}}},
         "s: base 0.50 (0.25 to 0.75, n = 40), ppo - (n = 0)"),
        ("report", {"path": "run/report.html"}, "run/report.html"),
    ],
)  # fmt: skip
def test_each_step_says_its_figures_in_words(step, figures, words):
    assert headline({step: figures}, {step: 1.5}) == [(step, 1.5, words)]


def test_an_unknown_step_is_named():
    with pytest.raises(UsageError, match=r"no such step: 'dpo'; known: data, export, sft"):
        run_loop(Loop.__new__(Loop), "dpo")

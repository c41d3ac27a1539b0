"""The steps of the loop and what they say of themselves; the steps themselves run in the demo's tests."""

from __future__ import annotations

import json
import math

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.cli import run as command
from constitute.config import LabelConfig, RunConfig
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.loop import STEPS, Loop, headline, run_loop
from constitute.report.build import write_report
from constitute.types import Choice, Request

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
        ("evals", {}, "no sets: none configured (evals.behaviors, evals.principles), or none past its gate"),
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


class OrderOnly(ScriptedEngine):
    """Prefers whichever answer is shown first."""

    async def choose(self, request: Request, labels, *, spelled: bool = False) -> Choice:
        return Choice(labels=tuple(labels), logprobs=(math.log(0.8), math.log(0.15)))


@pytest.fixture
def blind(tmp_path):
    (tmp_path / "c.yaml").write_text(to_yaml(constitution()))
    config = RunConfig(
        model="no-such-model",
        constitution=str(tmp_path / "c.yaml"),
        run=tmp_path / "run",
        label=LabelConfig(pairs="revision"),
    )
    return Loop(config, [prompt(f"p{i}") for i in range(20)], OrderOnly())


def test_labels_that_say_nothing_are_saved_gated_and_not_trained_on(blind):
    """What follows them is refused before a model is opened; data, exports and report are written."""
    assert run_loop(blind, "export")["export"]["preferences"]["rows"] == 20
    assert len(blind.gates) == 1 and "opposite labels in 100.0 % (83.9 to 100.0, n = 20)" in blind.gates[0]
    for step in ("reward", "ppo", "report"):
        blind.found[step] = STEPS[step].run(blind)
    assert "give --force" in blind.found["reward"]["refused"]
    assert blind.found["ppo"] == {"refused": "there is no reward model"}
    page = (blind.config.run / "report.html").read_text()
    assert '<p class="verdict" role="alert">these labels say nothing of the answers' in page
    # It stands before every figure, and again beside the labels.
    first, labels = page.index("These labels say nothing"), page.index('id="labels"')
    assert first < page.index('id="stages"', page.index("<main>")) < labels
    assert "these labels say nothing" in page[labels:]
    words = {step: text for step, _, text in headline(blind.found, dict.fromkeys(blind.found, 0.0))}
    assert (words["reward"], words["ppo"]) == ("refused", "refused")
    assert len(blind.gates) == 2


def test_the_report_shows_what_a_reward_model_is_worth(blind):
    run_loop(blind, "data")
    folder = blind.config.run / "reward"
    folder.mkdir()
    summary = {"verdict": "no better than <chance>", "held_out": {"accuracy": FIGURE}}
    (folder / "training.json").write_text(json.dumps({"made_by": {"kind": "reward"}, "summary": summary}))
    page = (write_report(blind.config.run)).read_text()
    said = '<li role="alert">Train: reward model: no better than &lt;chance&gt;.</li>'
    beside = '<p class="verdict" role="alert">no better than &lt;chance&gt;</p>'
    assert (page.count(said), page.count(beside)) == (1, 1)
    assert page.index(said) < page.index('id="stages"', page.index("<main>")) < page.index(beside)

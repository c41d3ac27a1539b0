"""The steps of the loop and what they say of themselves; the steps themselves run in the demo's tests."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.cli import run as command
from constitute.cli.run import TRAINERS
from constitute.config import GatesConfig, LabelConfig, RunConfig, load_config
from constitute.config.evals import EvalsConfig
from constitute.constitution.write import to_yaml
from constitute.errors import UsageError
from constitute.evals.write import check_principles
from constitute.loop import STEPS, Loop, headline, open_loop, run_loop, steps_of
from constitute.loop_train import TRAIN_STEPS, Step
from constitute.report.build import write_report
from constitute.types import Choice, Request

FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 40}
NONE = {"value": None, "low": None, "high": None, "n": 0}


def test_the_command_offers_the_steps_there_are():
    assert tuple(STEPS) == command.STEPS
    assert tuple(TRAIN_STEPS) == TRAINERS


@pytest.mark.parametrize(
    ("step", "figures", "words"),
    [
        ("data", {"label": {"ok": 3, "abstain": 2, "failed": 1}}, "label: 3 ok, 2 abstain, 1 failed"),
        ("export", {"sft": {"rows": 4}, "preferences": {"rows": 5}}, "4 sft rows; 5 preferences rows"),
        ("reward", {"held_out": {"accuracy": FIGURE}}, "held-out accuracy 0.50 (0.25 to 0.75, n = 40)"),
        ("reward", {"held_out": {}}, "no held-out pairs to measure on"),
        ("dpo", {"held_out": {"accuracy": FIGURE}}, "held-out accuracy 0.50 (0.25 to 0.75, n = 40)"),
        ("dpo", {"refused": "why"}, "refused"),
        ("best-of-n", {"reward": {"best of 1": NONE, "best of 4": FIGURE},
                       "sft": {"loss_first": 2.0, "loss_last": 1.5, "rows": 3}},
         "reward of best of 1 - (n = 0); reward of best of 4 0.50 (0.25 to 0.75, n = 40); "
         "loss 2.000 -> 1.500 on 3 rows"),
        ("evals", {}, "no sets: none configured (evals.behaviors, evals.principles), or none past its gate"),
        ("evals", {"s": {"items": 6, "base": {"share": FIGURE}, "ppo": {"share": NONE}}},
         "s: base 0.50 (0.25 to 0.75, n = 40), ppo - (n = 0)"),
        ("evals",
         {"s": {"items": 6,
                "ppo": {"share": NONE, "parts": {"kind: target": FIGURE, "kind: control": NONE}}}},
         "s: ppo target 0.50 (0.25 to 0.75, n = 40), ppo control - (n = 0)"),
        ("report", {"path": "run/report.html"}, "run/report.html"),
    ],
)  # fmt: skip
def test_each_step_says_its_figures_in_words(step, figures, words):
    assert headline({step: figures}, {step: 1.5}) == [(step, 1.5, words)]


@pytest.mark.parametrize(
    ("evals", "said"),
    [
        ({"principles": ("no-such",)}, r"no principle 'no-such' in 'harmless'; known: all, "),
        ({"principles": ("all",), "controls": ("no-file",)}, r"no such file: 'no-file'"),
    ],
)
def test_principles_and_controls_of_evals_are_looked_up_before_anything_runs(evals, said):
    config = RunConfig(model="pocket", constitution="pocket/harmless", evals=EvalsConfig(**evals))
    with pytest.raises(UsageError, match=said):
        check_principles(config)
    with pytest.raises(UsageError, match=said), open_loop(config, []):
        pass
    check_principles(
        config.model_copy(update={"evals": EvalsConfig(principles=("all",), per_principle=True)})
    )


def test_an_unknown_step_is_named():
    with pytest.raises(UsageError, match=r"no such step: 'dop'; known: data, export, sft"):
        steps_of(RunConfig(), "dop")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (None, ["sft", "reward", "ppo"]),
        ("dpo", ["sft", "dpo"]),
        (["best_of_n", "dpo"], ["sft", "reward", "dpo", "best-of-n"]),
        (["dpo", "ppo"], ["sft", "reward", "ppo", "dpo"]),
        ([], ["sft"]),
    ],
)
def test_the_method_says_which_trainers_run(tmp_path, monkeypatch, given, steps):
    """Each is called once and in order; a step of another method is refused with the ways on."""
    called = []
    for name in STEPS:
        step = Step(lambda loop, name=name: called.append(name) or {}, lambda figures: iter(()))
        monkeypatch.setitem(STEPS, name, step)
    monkeypatch.setattr("constitute.loop.require_trainable", lambda model: None)
    config = RunConfig.model_validate(
        {"run": tmp_path, "train": {} if given is None else {"method": given}, "model": "m"}
    )
    assert list(run_loop(Loop(config, [], OrderOnly()))) == called
    assert called == ["data", "export", *steps, "evals", "report"]
    for absent in set(TRAINERS) - set(steps):
        with pytest.raises(
            UsageError, match=f"the run has no step '{absent}'; its steps are data, export, sft"
        ):
            run_loop(Loop(config, [], OrderOnly()), absent)


def test_an_unknown_method_is_refused():
    with pytest.raises(
        UsageError, match=r"train\.method.* cannot be 'nlpo'.*'ppo', 'grpo', 'dpo' or 'best_of_n'"
    ):
        load_config(None, ["train.method=[dpo, nlpo]"])


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
    for step in ("reward", "ppo", "dpo", "best-of-n", "report"):
        blind.found[step] = STEPS[step].run(blind)
    assert "give --force" in blind.found["reward"]["refused"]
    assert blind.found["ppo"] == blind.found["best-of-n"] == {"refused": "there is no reward model"}
    assert "give --force" in blind.found["dpo"]["refused"]
    page = (blind.config.run / "report.html").read_text()
    assert '<p class="verdict" role="alert">these labels say nothing of the answers' in page
    # It stands before every figure, and again beside the labels.
    first, labels = page.index("These labels say nothing"), page.index('id="labels"')
    assert first < page.index('id="stages"', page.index("<main>")) < labels
    assert "these labels say nothing" in page[labels:]
    words = {step: text for step, _, text in headline(blind.found, dict.fromkeys(blind.found, 0.0))}
    assert (words["reward"], words["ppo"]) == ("refused", "refused")
    assert len(blind.gates) == 3


def test_a_whole_run_stops_before_training_on_labels_that_say_nothing(blind, monkeypatch):
    """Data, exports and the report are there; no trainer and no eval is reached; one sentence says why."""
    monkeypatch.setattr("constitute.loop.require_trainable", lambda model: None)
    assert list(run_loop(blind)) == ["data", "export", "report"]
    (said,) = blind.gates
    assert said.startswith("these labels say nothing of the answers: the two orders")
    assert said.endswith("; nothing is trained on them unless --force is given")
    assert "these labels say nothing" in (blind.config.run / "export" / "README.md").read_text()


def test_a_gate_stops_before_training_and_force_goes_on(blind, monkeypatch):
    """The verdict and the gate are both told; with force the first trainer is reached."""
    gates = GatesConfig(max_order_flip=0.5)
    blind.config = blind.config.model_copy(update={"gates": gates})
    run_loop(blind, "export")
    assert "allows 50 %" in blind.gates[0] and blind.stopped
    noted = json.loads((blind.config.run / "export" / "labels.json").read_text())
    assert len(noted["unmet"]) == 1 and "in 100.0 % (83.9 to 100.0, n = 20)" in noted["unmet"][0]

    def reached(config, *, progress, force):
        raise KeyError("sft")

    monkeypatch.setattr("constitute.loop.require_trainable", lambda model: None)
    monkeypatch.setattr("constitute.loop_train.run_sft", reached)
    forced = replace(blind, force=True, gates=[], stopped=False, found={})
    with pytest.raises(KeyError, match="sft"):
        run_loop(forced)
    assert forced.gates == [] and not forced.stopped


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

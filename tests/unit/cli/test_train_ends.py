"""How a training command ends: its exit code, and what it says of the folder it wrote."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from constitute.cli.train.best_of_n import best_of_n
from constitute.cli.train.conditioned import conditioned
from constitute.cli.train.expert import expert_iteration
from constitute.cli.train.group import dpo, reward, sft
from constitute.cli.train.quark import quark
from constitute.config import RunConfig
from constitute.errors import ExitCode, GateFailed
from constitute.progress import open_progress
from constitute.train.best_of_n.run import RECORD, _opened
from constitute.train.common.artefact import finished, recipe, write_record

ROUNDS = {"round 0": {"cut_off": 0.5}, "round 1": {"prompts_failed": 0}}


@pytest.fixture
def prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    return ("--prompts", "prompts.jsonl", "--model", "tuned", "--out", "made")


def ended(command, arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize("failed", [0, 22])
@pytest.mark.parametrize(
    ("command", "trains", "summary"),
    [
        (best_of_n, "best_of_n.run.run_best_of_n", lambda failed: {"prompts_failed": failed}),
        (
            expert_iteration,
            "imitation.expert.run_expert_iteration",
            lambda failed: {"policy": "p", "rounds": {**ROUNDS, "round 2": {"prompts_failed": failed}}},
        ),
        (
            quark,
            "imitation.quark.run_quark",
            lambda failed: {"policy": "p", "rounds": {**ROUNDS, "round 2": {"prompts_failed": failed}}},
        ),
    ],
)
def test_prompts_without_an_answer_are_failed_rows(prompts, monkeypatch, command, trains, summary, failed):
    monkeypatch.setattr(f"constitute.train.{trains}", lambda *_, **__: summary(failed))
    done = ended(command, prompts)
    assert done.return_value == (ExitCode.ROWS_FAILED if failed else ExitCode.OK)


@pytest.mark.parametrize("given", [(), ("--out", "made")])
@pytest.mark.parametrize(
    ("command", "trains", "own"),
    [
        (sft, "sft.run_sft", "sft"),
        (reward, "reward.train.run_reward", "reward"),
        (dpo, "dpo.run_dpo", "dpo"),
        (conditioned, "imitation.conditioned.run_conditioned", "conditioned"),
        (best_of_n, "best_of_n.run.run_best_of_n", "best-of-n"),
        (expert_iteration, "imitation.expert.run_expert_iteration", "expert-iteration"),
        (quark, "imitation.quark.run_quark", "quark"),
    ],
)
def test_the_folder_is_named_also_where_no_command_is_next(prompts, monkeypatch, command, trains, own, given):
    summary = {"policy": "p", "rounds": {}}
    monkeypatch.setattr(f"constitute.train.{trains}", lambda *_, **__: summary)
    names = [option.name for option in command.params]
    done = ended(command, (*(prompts[:2] if "prompts_file" in names else ()), *given))
    assert f"saved to {'made' if given else f'run/{own}'}\n" in done.stderr
    assert "saved to" not in done.stdout


@pytest.mark.parametrize(("record", "verb"), [("training.json", "trained"), (RECORD, "sampled")])
def test_a_finished_folder_is_told_from_a_new_training(tmp_path, capsys, record, verb):
    made_by = recipe("sft", RunConfig().train.sft, 0, data="a")
    write_record(tmp_path / record, made_by, {"seconds": 3})
    asks = finished if record == "training.json" else _opened
    with open_progress():
        assert asks(tmp_path, made_by) == {"seconds": 3}
    assert capsys.readouterr().err == (
        f"{tmp_path} was finished before, with the same settings and inputs, so nothing is {verb} again; its "
        "figures are those of that time\n"
    )


def pair_summary(**more):
    return {"pairs": 9, "held_out": {}, **more}


@pytest.mark.parametrize(
    ("command", "trains", "name"),
    [(reward, "reward.train.run_reward", "warning"), (dpo, "dpo.run_dpo", "held_out_doubt")],
)
def test_what_is_doubtful_is_said_once(prompts, monkeypatch, command, trains, name):
    found = pair_summary(**{name: "the figures are of 2 pairs"})
    monkeypatch.setattr(f"constitute.train.{trains}", lambda *_, **__: found)
    done = ended(command, ())
    assert done.stderr.count("warning: the figures are of 2 pairs\n") == 1
    assert done.stdout.split() == ["figure", "value", "pairs", "9"]


def test_a_verdict_is_said_once_also_where_force_lets_it_pass(prompts, monkeypatch):
    found = pair_summary(verdict="it is no better than chance")
    monkeypatch.setattr("constitute.train.reward.train.run_reward", lambda *_, **__: found)
    done = ended(reward, ("--force",))
    assert done.output.count("no better than chance") == 1
    assert "passed by --force although it is no better than chance\n" in done.stderr
    with pytest.raises(GateFailed, match="it is no better than chance"):
        ended(reward, ())

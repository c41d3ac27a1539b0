"""How a training command ends: its exit code, and what it says of the folder it wrote."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from constitute.cli.train.best_of_n import best_of_n
from constitute.cli.train.expert import expert_iteration
from constitute.cli.train.quark import quark
from constitute.errors import ExitCode

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

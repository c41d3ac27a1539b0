"""`constitute handoff`: what it writes from one run.yaml, and what it says."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.errors import UsageError


def test_the_command_writes_all_and_says_what_is_lost(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": f"p{n}", "prompt": f"How do I mend {n} kettles?"} for n in range(6)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("run.yaml").write_text(
        f"model: {tiny_model}\nprompts: prompts.jsonl\nconstitution: assistant\njudge: {tiny_model}\n"
        "generate: {system: Be kind.}\n"
        "train: {method: grpo, grpo: {rewards: [{source: judge}], batch_size: 8, samples_per_prompt: 4}}\n"
    )
    done = CliRunner().invoke(
        cli,
        [
            "handoff",
            "openrlhf",
            "run.yaml",
            "--out",
            "over",
            "--json",
            "--reward-url",
            "http://head:7000/get_reward",
        ],
        standalone_mode=False,
        catch_exceptions=False,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    names = {Path(path).name for path in told["files"]}
    assert names == {"prompts.jsonl", "launch.sh", "serve-reward.sh", "HANDOFF.md"} and told["left_out"] == 0
    row = json.loads(Path("over/prompts.jsonl").read_text().splitlines()[0])
    assert row["prompt"][0] == {"role": "system", "content": "Be kind."}
    start = Path("over/serve-reward.sh").read_text()
    assert "--port 7000" in start and "--allow-remote" in start
    # The server reads the run from what was written for it.
    config = load_config(Path("over/config.yaml"))
    assert config.train.grpo.rewards[0].source == "judge"
    assert f"--run {tmp_path / 'run'} --config {tmp_path / 'over' / 'config.yaml'}" in start
    assert "3c3be62" in Path("over/HANDOFF.md").read_text()


def test_an_algorithm_that_others_lack_is_refused(tmp_path, monkeypatch, tiny_model):
    """Named `gae` in another trainer's file, it would train something else without a word."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(6)))
    Path("run.yaml").write_text(
        f"model: {tiny_model}\nprompts: prompts.jsonl\nconstitution: assistant\njudge: {tiny_model}\n"
        "train: {method: grpo, grpo: {rewards: [{source: judge}], batch_size: 8, samples_per_prompt: 4, "
        "advantage: online_dpo}}\n"
    )
    for target in ("openrlhf", "verl", "nemo-rl"):
        done = CliRunner().invoke(cli, ["handoff", target, "run.yaml", "--out", "over"])
        assert isinstance(done.exception, UsageError)
        assert "advantage=online_dpo is none of the algorithms that other trainers have" in str(
            done.exception
        )

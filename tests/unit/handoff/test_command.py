"""`constitute handoff`: what it writes from one run.yaml, and what it says."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner
from ruamel.yaml import YAML

from constitute.cli.main import cli
from constitute.config import load_config
from constitute.errors import DataError, UsageError
from constitute.packaged import find
from constitute.train.rewards.served import served_rewards


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


def packaged_text(name):
    return find(name, "constitutions", ".yaml").read_text()


def refused(*words):
    done = CliRunner().invoke(cli, ["handoff", *words, "run.yaml", "--out", "over"])
    assert isinstance(done.exception, UsageError | DataError), done.output
    assert not Path("over").exists()
    return str(done.exception)


def test_what_is_refused_leaves_no_folder_and_names_are_checked_before_prompts_are_read(
    tmp_path, monkeypatch, tiny_model
):
    monkeypatch.chdir(tmp_path)
    sizes = "batch_size: 8, samples_per_prompt: 4"
    settings = "train: {method: grpo, grpo: {" + sizes + ", advantage: %s, max_new_tokens: %d}}"
    start = f"model: {tiny_model}\nprompts: prompts.jsonl\nrun: my run\nengine: {{context_length: 100}}\n"
    Path("run.yaml").write_text(start + settings % ("online_dpo", 8))
    # There is no prompts.jsonl yet.
    assert "no such trainer to hand over to: 'opnrlhf'; did you mean 'openrlhf'?" in refused("opnrlhf")
    assert "online_dpo is none of the algorithms" in refused("verl")
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(6)))
    Path("run.yaml").write_text(start + settings % ("grpo", 8))
    told = refused("verl")
    assert "run `constitute train reward --run 'my run'` first, or set train.grpo.rewards" in told
    # The room is that of the method's own responses.
    Path("run.yaml").write_text(
        start + settings.replace("grpo: {", "grpo: {rewards: [{source: judge}], ") % ("grpo", 99)
    )
    assert "none of 6 prompts can be handed over" in (told := refused("verl"))
    assert "lower train.grpo.max_new_tokens" in told
    Path("prompts.jsonl").write_text(json.dumps({"prompt": "Why?"}) + "\n")
    Path("run.yaml").write_text(Path("run.yaml").read_text().replace("99", "8"))
    assert "a batch has 2 prompts and there are 1" in refused("verl")


def test_nemo_rl_and_the_reward_server_each_get_their_own_configuration(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(6)))
    Path("run.yaml").write_text(
        f"model: {tiny_model}\nprompts: prompts.jsonl\nconstitution: assistant\njudge: {tiny_model}\n"
        "train: {method: ppo, grpo: {rewards: [{source: judge}], batch_size: 8, samples_per_prompt: 4}}\n"
    )
    words = ["handoff", "nemo-rl", "run.yaml", "--out", "handed over", "--method", "grpo"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    theirs = YAML(typ="safe").load(Path("handed over/nemo-rl.yaml"))
    assert theirs["defaults"] == "examples/configs/grpo_math_1B.yaml" and theirs["data"]["validation"] is None
    # Rewards are those of the method that is handed over, whatever the run trains first.
    assert served_rewards(load_config(Path("handed over/config.yaml")))[0].source == "judge"
    assert f"`sh '{tmp_path}/handed over/serve-reward.sh'`" in Path("handed over/HANDOFF.md").read_text()


def test_the_reward_server_starts_from_any_directory(tmp_path, monkeypatch, tiny_model):
    """What run.yaml names relative to the working directory means the same from another one."""
    monkeypatch.chdir(tmp_path)
    for name in ("rm", "judging"):
        shutil.copytree(tiny_model, name)
    Path("mine.py").write_text("def short(prompts, completions):\n    return [1.0 for _ in completions]\n")
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(6)))
    Path("house.yaml").write_text(packaged_text("assistant"))
    sources = ["rm", "mine:short", "judge:house.yaml", "judge:assistant", "https://reward.test/x"]
    rewards = ", ".join(f"{{source: '{each}'}}" for each in sources)
    Path("run.yaml").write_text(
        f"model: {tiny_model}\nprompts: prompts.jsonl\nconstitution: house.yaml\njudge: judging\n"
        f"train: {{method: ppo, ppo: {{rewards: [{rewards}], batch_size: 4}}}}\n"
    )
    done = CliRunner().invoke(cli, ["handoff", "verl", "run.yaml", "--out", "over"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    Path("bin").mkdir()
    Path("bin/constitute").write_text('#!/bin/sh\npwd\necho "$@"\n')
    Path("bin/constitute").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir("/")
    started = subprocess.run(
        ["sh", str(tmp_path / "over/serve-reward.sh")], capture_output=True, text=True, check=True
    )
    # Python finds a function's module in the directory that it is started in.
    where, words = started.stdout.splitlines()
    assert where == str(tmp_path) and f"--config {tmp_path}/over/config.yaml" in words
    config = load_config(tmp_path / "over/config.yaml")
    assert [each.source for each in config.train.ppo.rewards] == [
        f"{tmp_path}/rm", "mine:short", f"judge:{tmp_path}/house.yaml", "judge:assistant",
        "https://reward.test/x",
    ]  # fmt: skip
    assert (config.judge, config.constitution) == (f"{tmp_path}/judging", f"{tmp_path}/house.yaml")
    assert config.prompts == f"{tmp_path}/prompts.jsonl"


def test_without_a_run_a_command_that_makes_one_is_named(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    Path("my prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in range(6)))
    text = (
        f"constitution: assistant\njudge: {tiny_model}\ngenerate: {{n: 2}}\n"
        "train: {method: ppo, ppo: {rewards: [{source: judge}], batch_size: 4}}\n"
    )
    Path("run.yaml").write_text(f"model: {tiny_model}\n{text}")
    words = ["run.yaml", "--out", "over", "--prompts", "my prompts.jsonl", "--run", "mine", "--set", "seed=3"]

    def said(*more):
        done = CliRunner().invoke(cli, ["handoff", "verl", *words, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return next(line for line in done.stderr.splitlines() if "no training sets" in line)

    told = said()
    assert "there is no run in mine; `constitute run run.yaml --until data --run mine --prompts" in told
    command = shlex.split(told.split("`")[1])
    # It works as it is printed.
    done = CliRunner().invoke(cli, [*command[1:], "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    # Without a model in the file no such command would work.
    Path("run.yaml").write_text(text)
    assert said("--model", str(tiny_model)).endswith("there is no run in mine")

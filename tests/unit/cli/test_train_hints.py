"""The command that a training names as the next one: on a run that exists, with what it needs there."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from constitute.cli import options
from constitute.cli.train import shared


def hint(command, *arguments, **named):
    """What is named after a training with these arguments."""
    found = []

    @options.command()
    @options.compose(options.common, options.model)
    def trains(run_dir, config_file, sets, seed, as_json, model):
        config = options.configured(run_dir, config_file, sets, {})
        found.append(shared.following(command, config, **named))

    CliRunner().invoke(trains, arguments, catch_exceptions=False)
    return found[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_without_a_run_no_run_is_named(place):
    for command in ("evals run", "train reward", "train ppo", "train sft"):
        assert hint(command, model="policy") == ""
        assert hint(command, "--run", "absent") == ""
    (place / "run.yaml").write_text("prompts: prompts.jsonl\nrun: elsewhere\n")
    # The policy is the model that the reward model came from where nothing else says.
    assert hint("train ppo", "--config", "run.yaml", "--model", "tuned", reward="reward") == (
        "constitute train ppo --config run.yaml --model tuned --reward reward"
    )
    assert hint("train ppo", "--config", "run.yaml", reward="reward") == ""
    assert hint("train sft", "--model", "my model", data="best.jsonl") == (
        "constitute train sft --model 'my model' --data best.jsonl"
    )


def test_a_run_is_named_as_it_was_given_and_so_is_its_configuration(place):
    touch(place / "mine" / "evals" / "kind.jsonl")
    assert hint("evals run", "--run", "mine", model="policy") == (
        "constitute evals run --run mine --model policy"
    )
    (place / "run.yaml").write_text("run: mine\n")
    assert hint("evals run", "--config", "run.yaml", model="policy") == (
        "constitute evals run --run mine --config run.yaml --model policy"
    )


def test_what_the_next_command_reads_comes_first(place):
    touch(place / "run" / "config.yaml")
    assert hint("evals run", model="policy") == ""
    (place / "run" / "config.yaml").write_text("model: pocket\nconstitution: pocket/harmless\n")
    writes = "constitute evals write --run run --principle all"
    assert hint("evals run", model="policy") == hint("train reward", model=None) == writes
    touch(place / "run" / "evals" / "kind.jsonl")
    assert hint("train reward", model=None) == "constitute evals run --run run --model run/sft"
    touch(place / "run" / "export" / "preferences.jsonl")
    assert hint("train reward", model=None) == "constitute train reward --run run"
    assert hint("train ppo", reward=None) == ""
    (place / "run" / "config.yaml").write_text("model: http://127.0.0.1:9\nprompts: prompts.jsonl\n")
    assert hint("train ppo", reward=None) == ""
    touch(place / "run" / "sft" / "training.json")
    assert hint("train ppo", reward=None) == "constitute train ppo --run run"
    # Fine-tuning starts from a model, not from what it made.
    assert hint("train sft", data="best.jsonl") == ""

"""Expert iteration on a coin: what each round must reach is known beforehand."""

import json

import pytest
from click.testing import CliRunner
from coin_model import ENGINE, coin, prompts_file

from constitute.cli.train.expert import expert_iteration

REWARD = "def heads(prompts, completions):\n    return [float(c.text.strip() == 'A') for c in completions]\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return coin(tmp_path_factory)


def test_rounds_reach_what_best_of_four_says_and_end_where_nothing_rises(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coin_rewards.py").write_text(REWARD)
    prompts = prompts_file(tmp_path / "prompts.jsonl", 64)
    words = ["--prompts", str(prompts), "--reward", "coin_rewards:heads", "--json", "--model", str(model)]
    words += ["--run", "run", *ENGINE, "--rounds", "4", "--set", "train.expert_iteration.held_out=0.5"]
    words += ["-n", "4", "--set", "train.best_of_n.max_new_tokens=4"]
    words += [
        "--set",
        "train.sft.epochs=10",
        "--set",
        "train.sft.learning_rate=5e-3",
        "--set",
        "train.sft.batch_size=8",
    ]
    done = CliRunner().invoke(expert_iteration, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    rounds = summary["rounds"]
    assert summary["prompts"] == summary["prompts_held_out"] == 32
    reward = [rounds[name]["reward"]["value"] for name in rounds]
    # A coin, then 1 - 0.5^4 = 0.94, then all but 1: 128 samples each, so 0.1 is more than two deviations.
    assert reward[0] == pytest.approx(0.5, abs=0.1)
    assert reward[1] == pytest.approx(0.9375, abs=0.06)
    assert rounds["round 1"]["kept"] and rounds["round 1"]["p"] < 1e-3
    *_, last = rounds.values()
    assert not last["kept"] and last["p"] >= 0.05
    assert summary["stopped"].startswith("the reward no longer rose in round")
    best = sum(1 for each in rounds.values() if each.get("kept"))
    assert summary["policy"] == f"run/expert-iteration/round-{best}/sft"
    # The same command answers at once; other settings are refused.
    again = CliRunner().invoke(expert_iteration, words, catch_exceptions=False)
    assert json.loads(again.stdout.splitlines()[-1]) == summary
    for changed, said in (("train.sft.epochs=1", "sft"), ("train.ppo.utility=sigmoid", "welfare")):
        other = CliRunner().invoke(expert_iteration, [*words, "--set", changed])
        assert other.exit_code != 0 and said in str(other.exception)

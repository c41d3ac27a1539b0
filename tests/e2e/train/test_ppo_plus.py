"""What PPO keeps and measures beside learning, on the enumerable task: every figure against one by hand."""

import json

import pytest
import torch
from e2e.train.test_gibbs import END, LIMIT, PROMPT, ones
from e2e.train.test_ppo_options import start_in
from tolerance import FORMULA, tensors
from train_models import CausalRollouts

from constitute.config.train import PPOConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.train.doctor.diagnose import diagnose
from constitute.train.overopt.read import kept_policies
from constitute.train.ppo.held_out import Evaluation, standing
from constitute.train.ppo.run import train_ppo
from constitute.train.rewards.parts import RewardPart
from constitute.types import Message, Prompt

CLOCK = ("seconds", "tokens_per_second")
SETTINGS = {
    "iterations": 5, "batch_size": 16, "epochs": 1, "max_new_tokens": LIMIT, "kl_coef": 0.5,
    "learning_rate": 3e-3, "critic_learning_rate": 1e-2, "missing_eos_penalty": None,
    "checkpoint_every": 1, "keep_policies": True,
}  # fmt: skip


def train(folder, reward=ones, progress=None, out="out", **changes):
    start = start_in(folder)
    summary = train_ppo(
        [PROMPT], [[END]], str(start), reward, folder / out, PPOConfig(**SETTINGS | changes.pop("set", {})),
        engine=CausalRollouts(start, {END}), seed=0, progress=progress or Silent(), **changes,
    )  # fmt: skip
    return summary, lines_of(folder / out / "metrics.jsonl")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def off_the_clock(lines):
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


class Stopped(Exception):
    pass


class Stops(Silent):
    """Ends a run after some iterations, as a kill would."""

    def __init__(self, after):
        self.left = after

    def advance(self, *args, **named):
        self.left -= 1
        if not self.left:
            raise Stopped


ALL = {
    "warmup": 0.4, "value_warmup": 1, "score_norm": "running", "reference_refresh": 2, "ema": 0.75,
    "length_penalty": 0.25, "length_free": 1, "kl_target": 1.0, "kl_horizon": 100,
}  # fmt: skip


def test_everything_kept_beside_learning_is_right_and_goes_on_exactly(tmp_path):
    summary, lines = train(tmp_path, set=ALL)
    # A rise over 2 of 5 iterations times the fall; the policy begins with the second iteration.
    assert [line["learning_rate"] / 3e-3 for line in lines] == pytest.approx([0, 0.4, 0.6, 0.4, 0.2])
    assert [line["critic_learning_rate"] / 1e-2 for line in lines] == pytest.approx([0.5, 0.8, 0.6, 0.4, 0.2])
    policies = [weights(path) for path in sorted((tmp_path / "out" / "policies").iterdir())]
    start = weights(tmp_path / "start")
    assert all(torch.equal(policies[0][name], start[name]) for name in start)
    assert not all(torch.equal(policies[1][name], start[name]) for name in start)
    assert "grad_norm_actor" not in lines[0] and lines[0]["grad_norm_critic"] > 0
    assert lines[0]["value_loss"] > 0 and lines[1]["grad_norm_actor"] > 0
    # The controller waits for the policy too.
    assert lines[1]["kl_coef"] == lines[0]["kl_coef"] == 0.5 != lines[2]["kl_coef"]
    # The reference is the policy after iterations 2 and 4, and nothing lies between them at first.
    assert [line["kl_from"] for line in lines] == [0, 0, 2, 2, 4]
    assert [lines[place]["kl"] for place in (0, 1, 2, 4)] == [0.0] * 4 and lines[3]["kl"] != 0.0
    # 0.75 of the average before and 0.25 of each policy.
    average = {name: tensor.clone() for name, tensor in start.items()}
    for policy in policies:
        average = {name: 0.75 * average[name] + 0.25 * policy[name] for name in average}
    found = weights(tmp_path / "out" / summary["ema"])
    assert found.keys() == average.keys()
    for name in average:
        torch.testing.assert_close(found[name], average[name], **tensors(FORMULA))
    state = json.loads((tmp_path / "out" / "checkpoints" / "iteration-000005" / "state.json").read_text())
    moments = state["moments"]
    assert moments["n"] == 80
    assert moments["mean"] == pytest.approx(sum(line["reward"] for line in lines) / 5)
    # Lengths are 1 to 3: a quarter for each token beyond the first.
    for line in lines:
        assert line["length_penalty"] == pytest.approx(0.25 * (line["length"] - 1))

    with pytest.raises(Stopped):
        train(tmp_path, set=ALL, out="again", progress=Stops(4))
    _, again = train(tmp_path, set=ALL, out="again")
    assert off_the_clock(again) == off_the_clock(lines)
    for folder in ("", "ema"):
        one, other = weights(tmp_path / "out" / folder), weights(tmp_path / "again" / folder)
        assert all(torch.equal(one[name], other[name]) for name in one)


def against(prompts, completions):
    """A gold that falls as the reward rises."""
    return [-value for value in ones(prompts, completions)]


PARTS = [RewardPart("ones", ones), RewardPart("gold", against, 0.0)]
HELD = (
    [Prompt(id=f"h{k}", messages=(Message(role="user", content=str(k)),)) for k in range(60)],
    [[END]] * 60,
)
STOP = {
    "iterations": 40, "batch_size": 64, "epochs": 4, "learning_rate": 1e-2, "held_out": "held.jsonl",
    "held_out_every": 3, "checkpoint_every": 3, "stop_on": "gold", "patience": 2, "keep_policies": False,
}  # fmt: skip


def test_a_run_stops_when_the_gold_falls_and_gives_the_best_policy(tmp_path):
    summary, lines = train(tmp_path, reward=PARTS, set=STOP, held_out=HELD)
    found = [Evaluation.model_validate(row) for row in lines_of(tmp_path / "out" / "held_out.jsonl")]
    assert [one.iteration for one in found] == [0, *range(3, len(lines) + 1, 3)] and len(lines) < 40
    for one in found:
        assert (
            one.parts["gold"]
            == tuple(-value for value in one.parts["ones"])
            == tuple(-v for v in one.rewards)
        )
    # It stopped at the first measurement at which two in a row lay below the best, and not before.
    assert standing(found, "gold").below == 2 and standing(found[:-1], "gold").below == 1
    assert summary["stopped"].startswith(f"stopped after iteration {len(lines)} of 40: on the held-out")
    by_iteration = {one.iteration: one for one in found}
    for line in lines:
        one = by_iteration.get(line["iteration"])
        assert (one is None) == ("held_out/reward" not in line)
        if one is not None:
            assert line["held_out/reward"] == pytest.approx(sum(one.rewards) / 60)
            assert line["held_out/reward/gold"] == pytest.approx(-sum(one.rewards) / 60)
    # The best checkpoint is that of the highest gold, though the reward rose all the way.
    best = max(found[1:], key=lambda one: sum(one.parts["gold"]))
    assert summary["best_policy"] == f"checkpoints/iteration-{best.iteration:06d}/policy"
    assert (summary["saved_policy"], summary["saved_iteration"]) == ("best", best.iteration)
    # Where policies are told by their iterations, the folder is not taken for the last one.
    kept = kept_policies(tmp_path / "out", len(lines))
    assert kept[best.iteration] == tmp_path / "out" and kept[len(lines)] != tmp_path / "out"
    kept, given = weights(tmp_path / "out" / summary["best_policy"]), weights(tmp_path / "out")
    assert all(torch.equal(kept[name], given[name]) for name in kept)
    assert (
        summary["held_out"]["best_iteration"] == 0
        and summary["held_out"]["parts"]["gold"]["gain"]["high"] < 0
    )
    # Started again it is finished, and a run killed after its last measurement stops there as well.
    assert train(tmp_path, reward=PARTS, set=STOP, held_out=HELD)[0] == json.loads(json.dumps(summary))
    (tmp_path / "out" / "training.json").unlink()
    again, same = train(tmp_path, reward=PARTS, set=STOP, held_out=HELD)
    assert again["stopped"] == summary["stopped"] and same == lines


def test_held_out_prompts_leave_the_learning_as_it_is(tmp_path):
    short = {"iterations": 2, "held_out_every": 1}
    _, plain = train(tmp_path, set=short)
    _, measured = train(tmp_path, set=short | {"held_out": "held.jsonl"}, held_out=HELD, out="measured")
    for one, other in zip(off_the_clock(plain), off_the_clock(measured), strict=True):
        assert one == {name: value for name, value in other.items() if not name.startswith("held_out")}
        assert len(other) == len(one) + 4
    with pytest.raises(UsageError, match=r"names the file held\.jsonl, and its prompts are not given"):
        train(tmp_path, set={"held_out": "held.jsonl"}, out="other")
    with pytest.raises(UsageError, match=r"value_warmup trains a critic and .*advantage=reinforce"):
        train(tmp_path, set={"advantage": "reinforce++", "value_warmup": 1}, out="other")


def test_the_doctor_sees_a_critic_that_rewards_in_hundreds_leave_behind(tmp_path):
    def hundreds(prompts, completions):
        return [100 * value for value in ones(prompts, completions)]

    settings = {
        "iterations": 20,
        "batch_size": 16,
        "epochs": 2,
        "kl_coef": 0.05,
        "critic_learning_rate": 1e-3,
    }
    _, lines = train(tmp_path, reward=hundreds, set=settings | {"checkpoint_every": 100})
    found = {one.kind: one for one in diagnose(lines, config=PPOConfig(**SETTINGS | settings))}
    assert "train.ppo.value_clip lets it move by 0.2 a batch" in found["critic_useless"].sentence
    assert "score_norm=running" in found["critic_useless"].remedy

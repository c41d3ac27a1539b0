"""What rounds share: prompts kept apart, the reward of a policy's samples, and when it rose."""

import pytest

from constitute.config.train import BestOfNConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.train.best_of_n.choice import SAMPLES, SampledCompletion
from constitute.train.imitation import rounds
from constitute.train.imitation.rounds import (
    Asked,
    Measured,
    Sampler,
    change,
    measure,
    rose,
    split_prompts,
)
from constitute.train.rewards.welfare import Welfare
from constitute.types import Message, Prompt


def asked(texts):
    prompts = [Prompt(id=str(n), messages=(Message(role="user", content=t),)) for n, t in enumerate(texts)]
    return Asked(prompts, [[n] for n in range(len(texts))])


def test_equal_prompts_are_on_one_side_with_their_ids():
    learnt, held = split_prompts(asked([f"p{n // 2}" for n in range(20)]), 0.3, 0)
    assert (len(learnt.prompts), len(held.prompts)) == (14, 6)
    assert all(
        prompt.id == str(ids[0])
        for side in (learnt, held)
        for prompt, ids in zip(side.prompts, side.ids, strict=True)
    )
    words = [{prompt.messages[0].content for prompt in side.prompts} for side in (learnt, held)]
    assert not words[0] & words[1]


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_neither_side_may_be_empty(share):
    with pytest.raises(UsageError, match=r"of 2 prompts, [02] are held out"):
        split_prompts(asked(["a", "b"]), share, 0)


def test_the_reward_of_a_policy_is_the_mean_over_all_its_samples(tmp_path):
    rows = [
        SampledCompletion(
            prompt_id=str(n // 2), sample=n % 2, text="x", tokens=1, finish_reason="stop", ended=n != 3,
            scores={"a": score, "gold": 10 * score}, score=score,
        )
        for n, score in enumerate([1.0, 3.0, 5.0, 6.0])
    ]  # fmt: skip
    (tmp_path / SAMPLES).write_text("".join(row.model_dump_json() + "\n" for row in rows))
    found = measure(tmp_path, 2, 0)
    assert found.rewards == [2.0, 5.5] and found.figures["cut_off"] == 0.25
    assert found.figures["reward"]["value"] == 3.75 and found.figures["gold"]["value"] == 37.5
    assert found.figures["reward"]["n"] == 2


def test_several_rewards_become_one_as_the_settings_say(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(rounds, "sample_best", lambda *_, welfare, **__: given.append(welfare) or {})
    for welfare in (Welfare(), Welfare("nash", utility="sigmoid")):
        sampler = Sampler(None, "policy", (), BestOfNConfig(), Silent(), welfare)
        sampler.sample("policy", asked(["a"]), tmp_path, 0)
        assert given[-1] is welfare
        assert sampler.inputs == ({"welfare": "nash:sigmoid"} if welfare.name == "nash" else {})


def test_a_rise_is_one_that_signs_do_not_explain():
    before = Measured([0.0] * 8, {})
    up = change(before, Measured([1.0] * 7 + [0.0], {}), 0)
    # Seven prompts of eight differ, all upwards: 2 of the 2^7 assignments are as extreme.
    assert up["p"] == 2 / 2**7 and up["change"]["value"] == 0.875
    assert rose(up, 0.05) and not rose(up, 0.01)
    down = change(before, Measured([-1.0] * 8, {}), 0)
    assert down["p"] == 2 / 2**8 and not rose(down, 0.05)
    assert not rose(change(before, Measured([1.0, -1.0] * 4, {}), 0), 0.05)

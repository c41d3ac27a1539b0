"""Batches of several files of prompts: how many of each, which, and their figures."""

from collections import Counter

import pytest

from constitute.config.ppo import PPOConfig, PromptShare
from constitute.errors import UsageError
from constitute.train.common.batching import prompt_order
from constitute.train.ppo.mixing import OWN, check_mix, counts_of, draw, named, shares_of, source_figures
from constitute.types import Message, Prompt

MIX = (PromptShare(file="x/helpful.jsonl", share=0.3), PromptShare(file="b.jsonl", share=0.1, name="odd"))


def prompts_of(counts):
    found = []
    for name, count in counts.items():
        # The ids of two files may be the same.
        rows = [Prompt(id=f"p{k}", messages=(Message(role="user", content=f"{k}"),)) for k in range(count)]
        found += named(rows, name)
    return found


def test_counts_are_the_shares_and_add_up():
    assert shares_of(MIX) == pytest.approx({OWN: 0.6, "helpful": 0.3, "odd": 0.1})
    assert counts_of(shares_of(MIX), 10) == {OWN: 6, "helpful": 3, "odd": 1}
    # 4.8, 2.4 and 0.8: the two largest remainders are rounded up.
    assert counts_of(shares_of(MIX), 8) == {OWN: 5, "helpful": 2, "odd": 1}
    with pytest.raises(UsageError, match=r"a share of 0\.1 of 2 prompts is less than one prompt of odd"):
        counts_of(shares_of(MIX), 2)
    with pytest.raises(UsageError, match="two sources of prompts are called b"):
        shares_of([PromptShare(file="a/b.jsonl", share=0.1), PromptShare(file="c/b.jsonl", share=0.1)])


def test_each_source_is_gone_through_in_an_order_of_its_own():
    prompts = prompts_of({OWN: 12, "helpful": 6, "odd": 2})
    batches = [draw(prompts, MIX, 10, iteration, 7) for iteration in range(4)]
    for batch in batches:
        assert Counter(prompts[place].source for place in batch) == {OWN: 6, "helpful": 3, "odd": 1}
    # Two batches use every prompt once, four use it twice: 12 = 2 * 6, 6 = 2 * 3, 2 = 2 * 1.
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3]) == list(range(20))
    assert batches[0] != batches[2]
    assert draw(prompts, MIX, 10, 2, 7) == batches[2] and draw(prompts, MIX, 10, 2, 8) != batches[2]
    assert draw(prompts, (), 10, 2, 7) == prompt_order(20, 10, 2, 7)


def test_replacements_come_from_the_sources_by_chance():
    prompts = prompts_of({OWN: 12, "helpful": 6, "odd": 2})
    drawn = [prompts[place].source for seed in range(500) for place in draw(prompts, MIX, 1, None, seed)]
    counts = Counter(drawn)
    # Within four standard deviations of 300, 150 and 50.
    assert abs(counts[OWN] - 300) < 44 and abs(counts["helpful"] - 150) < 41 and abs(counts["odd"] - 50) < 27


def test_figures_by_source():
    prompts = prompts_of({OWN: 2, "helpful": 1})
    config = PPOConfig(mix=MIX)
    figures = source_figures(prompts, [1.0, 3.0, 8.0], config)
    assert figures == {
        "source/prompts/n": 2, "source/prompts/reward": 2.0, "source/prompts/reward_stderr": 1.0,
        "source/helpful/n": 1, "source/helpful/reward": 8.0, "source/helpful/reward_stderr": 0.0,
        "source/odd/n": 0, "source/odd/reward": None, "source/odd/reward_stderr": None,
    }  # fmt: skip
    assert source_figures(prompts, [1.0, 3.0, 8.0], PPOConfig()) == {}


def test_a_source_without_prompts_is_refused():
    check_mix(prompts_of({OWN: 2, "helpful": 1, "odd": 1}), PPOConfig(mix=MIX))
    with pytest.raises(UsageError, match=r"no prompt of odd is left to train on \(2 of prompts, 1 of help"):
        check_mix(prompts_of({OWN: 2, "helpful": 1}), PPOConfig(mix=MIX))

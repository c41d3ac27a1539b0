"""Preference rows on their way to the reward model: reading, splitting, resampling, cutting."""

import math
from dataclasses import replace

import pytest
from tiny_models import byte_tokenizer

from constitute.config.train import RewardConfig
from constitute.data.pairs import PreferencePair
from constitute.engines.render import Renderer
from constitute.errors import DataError
from constitute.train.reward.pairs import (
    TokenPair,
    bootstrap_counts,
    check_margins,
    consecutive,
    split_pairs,
    target,
)
from constitute.types import Message


def row(prob=0.9, **changes):
    return PreferencePair((Message(role="user", content="ask"),), "good", "bad", prob, **changes)


def test_targets_by_hand():
    assert [target(p, "soft") for p in (0.1, 0.55, 1.0)] == [0.1, 0.55, 1.0]
    assert [target(p, "hard") for p in (0.1, 0.55, 1.0)] == [0.0, 1.0, 1.0]
    assert [target(p, "clamped") for p in (0.1, 0.45, 0.55, 1.0)] == [0.4, 0.45, 0.55, 0.6]


def test_cutting_by_tokens():
    assert consecutive([3, 4, 5, 20, 1, 1], 8) == [[0, 1], [2], [3], [4, 5]]
    assert consecutive([], 8) == []


def test_each_head_draws_its_own_resample():
    counts = bootstrap_counts(2000, 3, seed=1)
    assert [sum(head) for head in counts] == [2000] * 3 and counts[0] != counts[1] != counts[2]
    # A pair is missed by a head with probability (1 - 1/n)^n, about 1/e.
    assert all(abs(head.count(0) / 2000 - math.exp(-1)) < 0.04 for head in counts)
    assert bootstrap_counts(5, 1, seed=1) == [[1] * 5]


TEMPLATE = "{% for m in messages %}{{ m.content }}|{% endfor %}"


def test_pairs_are_split_by_prompt_and_what_is_left_out_is_counted():
    pairs = [
        replace(row(0.9 if side else 0.5), prompt=(Message(role="user", content=f"p{prompt}"),))
        for prompt in range(10)
        for side in range(2)
    ]
    pairs += [replace(row(), weight=0.0), replace(row(), chosen="x" * 50)]
    # One token a letter.
    tokenizer = byte_tokenizer(TEMPLATE, special=("|",), eos="|")
    renderer = Renderer(tokenizer, "letters")
    config = RewardConfig(held_out=0.3, max_length=20)
    split = split_pairs(pairs, renderer, config, seed=0)
    assert (split.too_long, split.weightless, split.undecided) == (1, 1, 0)
    assert len(split.train) + len(split.held_out) == 20
    prompts = [{pair.row.prompt[0].content for pair in part} for part in (split.train, split.held_out)]
    assert not prompts[0] & prompts[1]
    pair = split.train[0]
    assert pair.chosen[: pair.prompt_length] == pair.rejected[: pair.prompt_length]
    assert tokenizer.convert_ids_to_tokens(pair.chosen[pair.prompt_length :]) == [*"good|"]
    hard = split_pairs(pairs, renderer, config.model_copy(update={"labels": "hard"}), seed=0)
    assert hard.undecided == 10 and len(hard.train) + len(hard.held_out) == 10


def test_every_pair_needs_a_margin_where_margins_are_on():
    pairs = [TokenPair([1], [2], 0, row(margin=margin)) for margin in (0.5, None, 1.0)]
    check_margins(pairs, RewardConfig())
    check_margins(pairs[::2], RewardConfig(margin=True))
    with pytest.raises(DataError, match="1 of 3 rows have no `margin`"):
        check_margins(pairs, RewardConfig(margin=True))

"""Held-out prompts: which they are, what is said of them, and when a fall is more than chance."""

import json
import math

import pytest

from constitute.config.ppo import PPOConfig
from constitute.errors import UsageError
from constitute.train.common.checkpoint import best_checkpoint, iteration_of
from constitute.train.ppo.checks import check_held_out
from constitute.train.ppo.held_out import (
    Evaluation,
    due,
    figures_of,
    paired,
    split_share,
    standing,
    stopped,
    summary_of,
)
from constitute.train.ppo.measure import HeldOut
from constitute.train.ppo.watch import held_out_text
from constitute.types import Message, Prompt


def prompts_of(texts):
    return [
        Prompt(id=f"p{k}", messages=(Message(role="user", content=text),)) for k, text in enumerate(texts)
    ]


def measured(iteration, gold, proxy=None):
    proxy = gold if proxy is None else proxy
    return Evaluation(
        iteration=iteration, rewards=tuple(proxy), parts={"rm": tuple(proxy), "gold": tuple(gold)},
        lengths=(4,) * len(gold), ended=(True,) * len(gold),
    )  # fmt: skip


def test_a_share_is_held_out_by_conversation_whatever_the_order():
    prompts = prompts_of([f"q{k}" for k in range(20)] + ["q3", "q4"])
    ids = [[k] for k in range(22)]
    (kept, kept_ids), (held, held_ids) = split_share(prompts, ids, 0.25, seed=1)
    texts = [[prompt.messages[0].content for prompt in side] for side in (kept, held)]
    assert len(set(texts[1])) == 5 and not set(texts[0]) & set(texts[1]) and len(kept) + len(held) == 22
    assert kept_ids == [[int(prompt.id[1:])] for prompt in kept]
    assert held_ids == [[int(prompt.id[1:])] for prompt in held]
    again = split_share(prompts[::-1], ids[::-1], 0.25, seed=1)[1][0]
    assert {prompt.id for prompt in again} == {prompt.id for prompt in held}
    assert {prompt.id for prompt in split_share(prompts, ids, 0.25, seed=2)[1][0]} != {
        prompt.id for prompt in held
    }
    with pytest.raises(UsageError, match=r"held_out=0\.1 of 2 different prompts leaves 2 to train on and 0"):
        split_share(prompts_of(["a", "b"]), [[1], [2]], 0.1, seed=0)


def test_when_it_is_measured():
    config = PPOConfig(iterations=25, held_out_every=10, checkpoint_every=4)
    assert [k for k in range(1, 26) if due(k, config)] == [10, 20, 25]
    stops = PPOConfig(iterations=25, held_out_every=10, checkpoint_every=4, held_out=0.1, stop_on="gold")
    assert [k for k in range(1, 26) if due(k, stops)] == [4, 8, 10, 12, 16, 20, 24, 25]


def test_figures_by_hand():
    found = figures_of(measured(5, [0.0, 1.0, 2.0], [1.0, 1.0, 4.0]))
    root = 1 / math.sqrt(3)
    assert found == pytest.approx({
        "held_out/reward": 2.0, "held_out_stderr/reward": math.sqrt(3) * root,
        "held_out/reward/rm": 2.0, "held_out_stderr/reward/rm": math.sqrt(3) * root,
        "held_out/reward/gold": 1.0, "held_out_stderr/reward/gold": root,
        "held_out/length": 4.0, "held_out/eos_rate": 1.0,
    })  # fmt: skip


def test_prompts_are_compared_with_themselves():
    # Differences 1, 1, 4: mean 2, deviation sqrt(3), over sqrt(3) prompts. Apart they would say nothing.
    assert paired([0.0, 50.0, 100.0], [1.0, 51.0, 104.0]) == (2.0, pytest.approx(1.0))


def shifted(by, spread=0.1, n=40):
    """Values of 40 prompts, moved by `by` give or take `spread`: a standard error of spread / sqrt(39)."""
    return [10.0 * k + by + (spread if k % 2 else -spread) for k in range(n)]


BASE = [10.0 * k for k in range(40)]


def test_a_fall_counts_only_beyond_chance_and_in_a_row():
    start, up = measured(0, BASE), measured(1, shifted(1.0))
    # 1.96 * 0.1 / sqrt(39) = 0.0314 each time the noise is new.
    low, near = measured(2, shifted(0.5, 0.3)), measured(3, shifted(0.98, 0.3))
    assert standing([start], "gold").below == 0
    risen = standing([start, up], "gold")
    assert (risen.best, risen.below) == (1, 0)
    fallen = standing([start, up, low], "gold")
    assert (fallen.best, fallen.below) == (1, 1)
    assert fallen.fall == (pytest.approx(-0.5), pytest.approx(1.96 * 0.2 / math.sqrt(39)))
    assert standing([start, up, low, low], "gold").below == 2
    # 0.02 below the best is within chance: the row begins again.
    assert standing([start, up, low, near], "gold").below == 0
    # A gain within chance is no new best, so that the highest of many is not compared with.
    assert standing([start, up, measured(2, shifted(1.02, 0.3)), low], "gold").best == 1
    # The proxy is another part.
    other = [measured(0, BASE, BASE), measured(1, shifted(-1.0), shifted(1.0))]
    assert standing(other, "gold").below == 1 and standing(other, "rm").below == 0
    assert standing(other, "sum").best == 1


def test_summary_and_sentences_by_hand():
    rows = [measured(0, [0.0, 2.0], [0.0, 0.0]), measured(5, [2.0, 4.0], [1.0, 1.0])]
    rows.append(measured(9, [0.0, 4.0], [3.0, 3.0]))
    config = PPOConfig(held_out=0.5, stop_on="gold", patience=1, iterations=20)
    found = summary_of(rows, config)
    assert (found["prompts"], found["measured"], found["best_iteration"]) == (2, 3, 5)
    gold = found["parts"]["gold"]
    assert [gold[when]["value"] for when in ("start", "best", "end", "gain")] == [1.0, 3.0, 2.0, 1.0]
    # Differences 0 and 2: standard error 1.
    assert (gold["gain"]["low"], gold["gain"]["high"]) == pytest.approx((-0.96, 2.96))
    assert [found["parts"]["sum"][when]["value"] for when in ("start", "best", "end")] == [0.0, 1.0, 3.0]
    assert held_out_text(found)[-1] == (
        "  gold: 1.000 at the start, 3.000 after iteration 5, 2.000 at the end; "
        "gain +1.000 (-0.960 to +2.960)"
    )
    assert summary_of([], config) == {}
    rows = [measured(0, BASE), measured(3, shifted(-1.0))]
    assert stopped(standing(rows, "gold"), config, 3) == (
        "stopped after iteration 3 of 20: on the held-out prompts gold is 1 (± 0.031) lower than after "
        "iteration 0; the last measurement was lower beyond chance"
    )


def test_of_equal_means_the_earliest_is_the_best_in_the_figures_and_on_disk(tmp_path):
    values = {0: [0.0, 1.0], 2: [1.0, 2.0], 4: [2.0, 1.0], 6: [0.0, 2.0]}
    rows = [measured(iteration, gold) for iteration, gold in values.items()]
    config = PPOConfig(held_out=0.5, stop_on="gold", checkpoint_every=2)
    for place, row in enumerate(rows[1:], 2):
        held = HeldOut(tmp_path, config, found=rows[:place])
        folder = tmp_path / f"iteration-{row.iteration:06d}"
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps({"objective": held.objective}))
    best = best_checkpoint(tmp_path)
    assert iteration_of(best) == summary_of(rows, config)["best_iteration"] == 2


def test_what_cannot_be_stopped_on_is_refused():
    held = (prompts_of([str(k) for k in range(19)]), [[1]] * 19)
    config = PPOConfig(held_out=0.1, stop_on="gold")
    with pytest.raises(UsageError, match="stop_on names gold, and the parts of the reward are rm; name one"):
        check_held_out(held, ["rm"], None, config)
    with pytest.raises(UsageError, match=r"on 19 held-out prompts, too few .* hold out 20 or more"):
        check_held_out(held, ["rm", "gold"], None, config)

    class Stored:
        replays = True

    with pytest.raises(UsageError, match="a replay holds no answers to held-out prompts"):
        check_held_out(held, ["rm"], Stored(), PPOConfig(held_out=0.1))
